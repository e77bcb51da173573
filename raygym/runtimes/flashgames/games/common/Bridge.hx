import flash.Lib;
import flash.display.StageScaleMode;
import flash.events.Event;
import flash.events.KeyboardEvent;
import flash.external.ExternalInterface;

/** What a game is to the page around it. */
interface Game {
  var frame(default, null):Int;
  var score(default, null):Float;
  var isOver(default, null):Bool;

  /** Starts the episode of that seed at once. */
  function reset(seed:Int):Void;

  /** Plays one frame, with what pictures remember of it. */
  function advance(keys:Keys):Void;

  /** Shows how things are now; left out for frames that nobody sees. */
  function draw():Void;

  /** What a scripted driver needs to know: a flat object of numbers. */
  function state():Dynamic;
}

/** The keys that are held down now. */
class Keys {
  public var left = false;
  public var right = false;
  public var up = false;
  public var down = false;
  public var action = false;

  public function new() {}

  public function set(keyCode:Int, isDown:Bool):Void {
    switch (keyCode) {
      case 37: left = isDown;
      case 38: up = isDown;
      case 39: right = isDown;
      case 40: down = isDown;
      case 32 | 88: action = isDown;
    }
  }
}

/** Runs a Game: one step a SWF frame, keys in, score out. */
class Bridge {
  public static function run(game:Game):Void {
    var keys = new Keys();
    var stage = Lib.current.stage;
    stage.scaleMode = StageScaleMode.SHOW_ALL;
    stage.addEventListener(KeyboardEvent.KEY_DOWN, function(e:KeyboardEvent) keys.set(e.keyCode, true));
    stage.addEventListener(KeyboardEvent.KEY_UP, function(e:KeyboardEvent) keys.set(e.keyCode, false));
    var hasPage = ExternalInterface.available;
    if (hasPage) {
      ExternalInterface.addCallback("raygymReset", function(seed:Int) game.reset(seed));
      ExternalInterface.addCallback("raygymState", function():Dynamic return game.state());
    }
    game.reset(0);
    stage.addEventListener(Event.ENTER_FRAME, function(_) {
      if (!game.isOver) game.advance(keys);
      // The page answers true where another frame follows before anybody looks.
      var isUnseen = hasPage && ExternalInterface.call("raygymScore", game.score, game.isOver, game.frame) == true;
      if (!isUnseen) game.draw();
    });
  }
}
