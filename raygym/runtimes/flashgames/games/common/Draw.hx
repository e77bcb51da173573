import flash.display.GradientType;
import flash.display.Graphics;
import flash.geom.Matrix;

/** Short words for what is drawn often. */
class Draw {
  /** A rectangle that blends from top to bottom; `stops` run from 0 to 255. */
  public static function verticalGradient(g:Graphics, colors:Array<UInt>, opacities:Array<Float>, stops:Array<Int>, left:Float, top:Float, width:Float, height:Float):Void {
    var matrix = new Matrix();
    matrix.createGradientBox(width, height, Math.PI / 2, left, top);
    g.beginGradientFill(GradientType.LINEAR, colors, opacities, stops, matrix);
    g.drawRect(left, top, width, height);
    g.endFill();
  }

  /** A soft disc of light around (0, 0). */
  public static function glow(g:Graphics, color:UInt, opacity:Float, radius:Float):Void {
    var matrix = new Matrix();
    matrix.createGradientBox(radius * 2, radius * 2, 0, -radius, -radius);
    g.beginGradientFill(GradientType.RADIAL, [color, color, color], [opacity, opacity * 0.4, 0], [0, 100, 255], matrix);
    g.drawCircle(0, 0, radius);
    g.endFill();
  }

  /** A filled polygon; `points` are x, y, x, y, ... */
  public static function fill(g:Graphics, color:Int, opacity:Float, points:Array<Float>):Void {
    g.beginFill(color, opacity);
    g.moveTo(points[0], points[1]);
    var i = 2;
    while (i < points.length) {
      g.lineTo(points[i], points[i + 1]);
      i += 2;
    }
    g.lineTo(points[0], points[1]);
    g.endFill();
  }

  /** The colour that lies at `part` (0 to 1) between two. */
  public static function blend(a:Int, b:Int, part:Float):Int {
    var red = (a >> 16) + ((b >> 16) - (a >> 16)) * part;
    var green = ((a >> 8) & 255) + (((b >> 8) & 255) - ((a >> 8) & 255)) * part;
    var blue = (a & 255) + ((b & 255) - (a & 255)) * part;
    return (Std.int(red) << 16) | (Std.int(green) << 8) | Std.int(blue);
  }
}
