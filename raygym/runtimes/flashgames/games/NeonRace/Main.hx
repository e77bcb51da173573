import flash.Lib;
import Bridge.Game;
import Bridge.Keys;

/** NeonRace: 45 seconds of night road. Drive fast, stay clean, pass the others. */
class Main implements Game {
  public var frame(default, null) = 0;
  public var score(default, null) = 0.0;
  public var isOver(default, null) = false;

  var race:Race;
  var view = new View();

  public function new() {
    Lib.current.addChild(view);
  }

  public function reset(seed:Int):Void {
    race = new Race(seed);
    view.restart();
    tell();
    draw();
  }

  public function advance(keys:Keys):Void {
    race.advance(keys);
    tell();
  }

  public function draw():Void view.draw(race);

  public function state():Dynamic return race.state();

  function tell():Void {
    frame = race.frame;
    score = race.score;
    isOver = race.isOver();
    view.follow(race);
  }

  static function main():Void Bridge.run(new Main());
}
