import flash.display.CapsStyle;
import flash.display.JointStyle;
import flash.display.LineScaleMode;
import flash.display.Shape;

/**
 * Text drawn as neon tubes. Its letters are its own, so that it looks the same everywhere,
 * whatever fonts a machine has. A letter is 4 wide and 6 high before scaling.
 */
class NeonText extends Shape {
  static inline var ADVANCE = 6.0;
  static inline var CHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ+-:./!x%";
  /** Per character its strokes; a stroke is a chain of points, two digits (x, y) each. */
  static var STROKES = [
    "103041453616050110", "112026 1636", "01103041420646", "0110304142334445361605 1333", "36300444",
    "400003334445361605", "4130100105163645443303", "0040412426", "13020110304142331304051636454433",
    "0516364541301001021343", "0602204246 0444", "06003041423303 3344453606", "4130100105163645",
    "00063645413000", "40000646 0333", "400006 0333", "41301001051636454323", "0006 4046 0343",
    "2026 1030 1636", "404536160504", "0006 400346", "000646", "0600234046", "06004640",
    "103041453616050110", "06003041423303", "103041453616050110 2446", "06003041423303 2346",
    "413010010213334445361605", "0040 2026", "000516364540", "002640", "0016233640", "0046 4006",
    "002340 2326", "00400646", "0343 2125", "0343", "2122 2425", "2526", "4006", "2024 2526",
    "0246 4206", "4006 0011 3546"
  ];

  var size:Float;
  var tint:Int;
  var align:Float;
  var shown = "";

  /**
   * @param size Pixels a grid step; letters are 6 steps high.
   * @param align 0.0 starts at x, 0.5 is centred on it, 1.0 ends there.
   */
  public function new(size:Float, tint:Int, align = 0.0) {
    super();
    this.size = size;
    this.tint = tint;
    this.align = align;
  }

  public function at(left:Float, top:Float):NeonText {
    x = left;
    y = top;
    return this;
  }

  public function show(text:String, ?newTint:Int):Void {
    if (newTint == null) newTint = tint;
    if (text == shown && newTint == tint) return;
    shown = text;
    tint = newTint;
    graphics.clear();
    if (text == "") return;
    tube(size * 2.6, 0x07040f, 0.55);
    tube(size * 1.9, tint, 0.28);
    tube(size * 0.95, tint, 1.0);
    tube(size * 0.4, 0xffffff, 0.75);
  }

  function tube(width:Float, color:Int, opacity:Float):Void {
    var g = graphics;
    g.lineStyle(width, color, opacity, false, LineScaleMode.NORMAL, CapsStyle.ROUND, JointStyle.ROUND);
    var left = -align * (shown.length * ADVANCE - 2) * size;
    for (i in 0...shown.length) {
      var index = CHARS.indexOf(shown.charAt(i));
      if (index >= 0) for (stroke in STROKES[index].split(" ")) {
        var point = 0;
        while (point + 1 < stroke.length) {
          var px = left + (stroke.charCodeAt(point) - 48) * size;
          var py = (stroke.charCodeAt(point + 1) - 48) * size;
          if (point == 0) g.moveTo(px, py) else g.lineTo(px, py);
          point += 2;
        }
      }
      left += ADVANCE * size;
    }
  }
}
