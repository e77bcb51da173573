import flash.Lib;
import flash.events.Event;
import flash.events.KeyboardEvent;
import flash.external.ExternalInterface;

/** A game that has to be asked: each press of A is worth 2, the third ends it. */
class Asked {
  static function main():Void {
    var score = 10.0;
    var presses = 0;
    var g = Lib.current.graphics;
    var stage = Lib.current.stage;
    stage.addEventListener(KeyboardEvent.KEY_DOWN, function(e:KeyboardEvent) {
      if (e.keyCode != 65) return;
      presses++;
      score += 2;
    });
    stage.addEventListener(Event.ENTER_FRAME, function(_) {
      g.clear();
      g.beginFill(presses % 2 == 0 ? 0x204060 : 0x602040);
      g.drawRect(0, 0, 320, 200);
    });
    ExternalInterface.addCallback("getScore", function() return score);
    ExternalInterface.addCallback("isOver", function() return presses >= 3);
  }
}
