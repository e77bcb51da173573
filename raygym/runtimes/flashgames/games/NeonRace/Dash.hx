import flash.display.Shape;
import flash.display.Sprite;

/** Score, clock, speed, nitro, news and the card at the end. */
class Dash extends Sprite {
  var panels = new Shape();
  var bars = new Shape();
  var scoreLabel = new NeonText(1.5, 0x9fb4ff).at(18, 14);
  var scoreText = new NeonText(3.4, 0xffffff).at(18, 30);
  var clockText = new NeonText(4.4, 0xfff06a, 0.5).at(320, 14);
  var factorText = new NeonText(3.4, 0xff5fc8, 1).at(620, 14);
  var speedText = new NeonText(4.4, 0x5ff4ff, 1).at(596, 434);
  var unitText = new NeonText(1.4, 0x9fb4ff).at(602, 451);
  var nitroText = new NeonText(1.5, 0x9fb4ff).at(18, 436);
  var newsText = new NeonText(3.2, 0xffffff, 0.5).at(320, 92);
  var card = new Sprite();
  var cardTexts:Array<NeonText> = [];
  var newsLeft = 0;

  public function new() {
    super();
    Draw.verticalGradient(panels.graphics, [0x06030f, 0x06030f], [0.75, 0], [0, 255], 0, 0, 640, 76);
    Draw.verticalGradient(panels.graphics, [0x06030f, 0x06030f], [0, 0.7], [0, 255], 0, 420, 640, 60);
    for (child in [panels, bars, scoreLabel, scoreText, clockText, factorText, speedText, unitText, nitroText, newsText]) addChild(child);
    scoreLabel.show("SCORE");
    unitText.show("KMH");
    nitroText.show("NITRO X");
    var back = new Shape();
    var g = back.graphics;
    g.beginFill(0x05020e, 0.66);
    g.drawRect(0, 0, 640, 480);
    g.endFill();
    g.lineStyle(8, 0xff2fa0, 0.25);
    g.drawRoundRect(130, 110, 380, 250, 24);
    g.lineStyle(2.5, 0xff8ad0, 1);
    g.beginFill(0x120828, 0.92);
    g.drawRoundRect(130, 110, 380, 250, 24);
    g.endFill();
    card.addChild(back);
    var rows = [5.0, 7.0, 2.6, 2.6];
    var tops = [136, 196, 268, 312];
    for (i in 0...4) {
      var text = new NeonText(rows[i], [0xff5fc8, 0xffffff, 0x9fb4ff, 0x5ff4ff][i], 0.5).at(320, tops[i]);
      cardTexts.push(text);
      card.addChild(text);
    }
    addChild(card);
  }

  public function restart():Void {
    newsLeft = 0;
    newsText.show("");
  }

  public function draw(race:Race):Void {
    scoreText.show(pad(Std.int(race.score), 4));
    var left = (Race.FRAMES - race.frame) / 25;
    var tenths = Std.int(left * 10);
    clockText.show(Std.int(tenths / 10) + "." + tenths % 10, left < 10 && (race.frame >> 2) % 2 == 0 ? 0xff4060 : 0xfff06a);
    factorText.show("x" + Std.int(race.factor()) + "." + Std.int(race.factor() * 10 + 0.001) % 10);
    speedText.show("" + Std.int(race.speed * 0.52));
    bar(race);
    card.visible = race.isOver();
    if (card.visible) finish(race);
  }

  function bar(race:Race):Void {
    var g = bars.graphics;
    g.clear();
    cells(18, 454, 20, 9, race.nitro, race.isBurning ? 0xffffff : 0x35e0ff);
    cells(500, 42, 20, 6, race.flow, 0xff5fc8);
    cells(446, 468, 25, 6, Math.min(1, race.speed / Race.LIMIT), race.speed > Race.CRUISE + 20 ? 0xffffff : 0x5ff4ff);
  }

  function cells(left:Float, top:Float, count:Int, height:Float, share:Float, color:Int):Void {
    var g = bars.graphics;
    var full = Math.round(share * count);
    g.beginFill(0xffffff, 0.16);
    for (i in full...count) g.drawRect(left + i * 6, top, 4.4, height);
    g.endFill();
    if (full == 0) return;
    g.beginFill(color);
    for (i in 0...full) g.drawRect(left + i * 6, top, 4.4, height);
    g.endFill();
  }

  /** Passes news on, and lets them fade. */
  public function follow(race:Race):Void {
    for (item in race.news) {
      newsLeft = 22;
      newsText.show(item, item == "CRASH" ? 0xff4060 : 0xfff06a);
    }
    race.news = [];
    if (race.frame < 50 && newsLeft == 0) newsText.show(race.frame < 12 ? "READY" : "GO!", 0x5ff4ff);
    else if (newsLeft > 0) newsLeft--;
    else newsText.show("");
    newsText.alpha = newsLeft > 0 && newsLeft < 8 ? newsLeft / 8 : 1;
  }

  function finish(race:Race):Void {
    newsText.show("");
    var rank = race.score > 2600 ? "S" : race.score > 1900 ? "A" : race.score > 1200 ? "B" : race.score > 500 ? "C" : "D";
    cardTexts[0].show("TIME UP");
    cardTexts[1].show("" + Std.int(race.score));
    cardTexts[2].show("OVERTAKES " + race.overtakes + "   SECTOR " + (1 + Std.int(race.distance / Track.SEGMENT / Track.SECTOR)));
    cardTexts[3].show("RANK " + rank);
  }

  static function pad(value:Int, length:Int):String {
    var text = "" + value;
    while (text.length < length) text = "0" + text;
    return text;
  }
}
