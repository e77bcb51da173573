/** A xorshift generator of 32 bits: the only source of chance in a game. */
class Prng {
  var state:Int;

  public function new(seed:Int) {
    state = (seed * 0x9E3779B1) ^ 0x5DEECE66;
    if (state == 0) state = 1;
    for (i in 0...8) bits();
  }

  /** From 0.0 up to, not including, 1.0. */
  public inline function unit():Float return bits() / 16777216.0;

  /** From `low` up to, not including, `high`. */
  public inline function range(low:Float, high:Float):Float return low + (high - low) * unit();

  /** A whole number from 0 to `count` - 1. */
  public inline function below(count:Int):Int return Std.int(unit() * count);

  function bits():Int {
    var s = state;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    state = s;
    return s >>> 8;
  }
}
