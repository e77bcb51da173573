import flash.Lib;
import flash.events.KeyboardEvent;
import flash.external.ExternalInterface;

/** Opens with a menu that Enter leaves; then each press of A is worth 5 and is told at once. */
class Menu {
  static function main():Void {
    var isPlaying = false;
    var score = 0;
    var stage = Lib.current.stage;
    stage.addEventListener(KeyboardEvent.KEY_DOWN, function(e:KeyboardEvent) {
      if (e.keyCode == 13) isPlaying = true;
      if (e.keyCode != 65 || !isPlaying) return;
      score += 5;
      ExternalInterface.call("game.scored", score, false);
    });
  }
}
