import flash.Lib;
import Bridge.Game;
import Bridge.Keys;

/** DuskDrive: light the lanterns of a town by the sea, one after another, before night falls. */
class Main implements Game {
  public var frame(default, null) = 0;
  public var score(default, null) = 0.0;
  public var isOver(default, null) = false;

  var errand:Errand;
  var scene = new Scene();

  public function new() {
    Lib.current.addChild(scene);
  }

  public function reset(seed:Int):Void {
    errand = new Errand(seed);
    scene.restart(errand);
    show();
  }

  public function advance(keys:Keys):Void {
    errand.advance(keys);
    show();
  }

  /** The eye follows from picture to picture, so each was drawn already. */
  public function draw():Void {}

  public function state():Dynamic return errand.state();

  function show():Void {
    frame = errand.frame;
    score = errand.score;
    isOver = errand.isOver();
    scene.draw(errand);
  }

  static function main():Void Bridge.run(new Main());
}
