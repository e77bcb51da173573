import flash.Lib;
import flash.events.KeyboardEvent;
import flash.external.ExternalInterface;

/** Tells the sum of the codes of all keys it was ever given. */
class Keys {
  static function main():Void {
    var sum = 0;
    Lib.current.stage.addEventListener(KeyboardEvent.KEY_DOWN, function(e:KeyboardEvent) {
      sum += e.keyCode;
      ExternalInterface.call("heard", sum);
    });
  }
}
