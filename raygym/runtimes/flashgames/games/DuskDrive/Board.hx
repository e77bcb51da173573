import flash.display.Shape;
import flash.display.Sprite;

/** Score, daylight, streak, news and the card at the end. */
class Board extends Sprite {
  var panels = new Shape();
  var bars = new Shape();
  var scoreLabel = new NeonText(1.5, 0xffd9a8).at(18, 14);
  var scoreText = new NeonText(3.4, 0xffffff).at(18, 30);
  var dayLabel = new NeonText(1.5, 0xffd9a8, 0.5).at(320, 14);
  var factorText = new NeonText(3.4, 0xffb45a, 1).at(620, 14);
  var litText = new NeonText(1.6, 0xffe9a0).at(18, 458);
  var clockText = new NeonText(1.6, 0xffe9a0, 1).at(620, 458);
  var newsText = new NeonText(3.0, 0xffffff, 0.5).at(320, 96);
  var card = new Sprite();
  var cardTexts:Array<NeonText> = [];
  var newsLeft = 0;

  public function new() {
    super();
    Draw.verticalGradient(panels.graphics, [0x140a26, 0x140a26], [0.8, 0], [0, 255], 0, 0, 640, 78);
    Draw.verticalGradient(panels.graphics, [0x140a26, 0x140a26], [0, 0.75], [0, 255], 0, 432, 640, 48);
    for (child in [panels, bars, scoreLabel, scoreText, dayLabel, factorText, litText, clockText, newsText]) addChild(child);
    scoreLabel.show("SCORE");
    dayLabel.show("DAYLIGHT");
    var back = new Shape();
    var g = back.graphics;
    g.beginFill(0x0c0620, 0.6);
    g.drawRect(0, 0, 640, 480);
    g.endFill();
    g.lineStyle(8, 0xffa04a, 0.25);
    g.drawRoundRect(130, 110, 380, 250, 24);
    g.lineStyle(2.5, 0xffd08a, 1);
    g.beginFill(0x221238, 0.94);
    g.drawRoundRect(130, 110, 380, 250, 24);
    g.endFill();
    card.addChild(back);
    var sizes = [4.6, 7.0, 2.6, 2.6];
    var tops = [138, 196, 268, 312];
    for (i in 0...4) {
      var text = new NeonText(sizes[i], [0xffa04a, 0xffffff, 0xffd9a8, 0xffe27a][i], 0.5).at(320, tops[i]);
      cardTexts.push(text);
      card.addChild(text);
    }
    addChild(card);
  }

  public function restart():Void {
    newsLeft = 0;
    newsText.show("");
  }

  public function draw(errand:Errand):Void {
    var text = "" + Std.int(errand.score);
    while (text.length < 4) text = "0" + text;
    scoreText.show(text);
    factorText.show("x" + Std.int(errand.factor()) + "." + Std.int(errand.factor() * 10 + 0.001) % 10);
    litText.show("LANTERNS " + errand.lit);
    var tenths = Std.int((Errand.FRAMES - errand.frame) / 2.5);
    clockText.show("NIGHTFALL " + Std.int(tenths / 10) + "." + tenths % 10);
    bar(errand);
    tell(errand);
    card.visible = errand.isOver();
    if (card.visible) finish(errand);
  }

  function bar(errand:Errand):Void {
    var g = bars.graphics;
    g.clear();
    var left = Math.max(0, Math.min(1, errand.daylight / Errand.DAYLIGHT));
    var isLow = left < 0.3 && (errand.frame >> 2) % 2 == 0;
    g.beginFill(0x0c0620, 0.7);
    g.drawRoundRect(208, 30, 224, 16, 16);
    g.endFill();
    g.beginFill(isLow ? 0xff5040 : Draw.blend(0xff6a4a, 0xffd85a, left));
    g.drawRoundRect(211, 33, Math.max(10, 218 * left), 10, 10);
    g.endFill();
    g.beginFill(0xfff3b8);
    g.drawCircle(211 + Math.max(5, 218 * left - 5), 38, 8);
    g.endFill();
    var full = Math.round(errand.streak);
    g.beginFill(0xffffff, 0.16);
    for (i in full...20) g.drawRect(500 + i * 6, 42, 4.4, 6);
    g.endFill();
    g.beginFill(0xffb45a);
    for (i in 0...full) g.drawRect(500 + i * 6, 42, 4.4, 6);
    g.endFill();
  }

  function tell(errand:Errand):Void {
    for (item in errand.news) if (item != "LIT" && item != "NIGHT") {
      newsLeft = 20;
      newsText.show(item == "WALL" ? "BUMP" : item, 0xff6a5a);
    } else if (item == "LIT" && errand.lit % 10 == 0) {
      newsLeft = 24;
      newsText.show(errand.lit + " LANTERNS!", 0xffe27a);
    }
    errand.news = [];
    if (errand.frame < 40 && newsLeft == 0) newsText.show("LIGHT THE LANTERNS", 0xffe27a);
    else if (newsLeft > 0) newsLeft--;
    else newsText.show("");
    newsText.alpha = newsLeft > 0 && newsLeft < 8 ? newsLeft / 8 : 1;
  }

  function finish(errand:Errand):Void {
    newsText.show("");
    var s = errand.score;
    cardTexts[0].show("NIGHT FALLS");
    cardTexts[1].show("" + Std.int(s));
    cardTexts[2].show(errand.lit + " LANTERNS   " + errand.bumps + " BUMPS");
    cardTexts[3].show("RANK " + (s > 1500 ? "S" : s > 1100 ? "A" : s > 700 ? "B" : s > 300 ? "C" : "D"));
  }
}
