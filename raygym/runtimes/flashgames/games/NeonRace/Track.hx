import flash.Vector;

/** The road of one episode: a row of segments with a bend and a height each. */
class Track {
  /** Length of a segment, in world units. */
  public static inline var SEGMENT = 300;
  /** Segments to a sector, from one gate to the next. */
  public static inline var SECTOR = 640;
  static inline var COUNT = 3200;

  /** Bend of each segment, about -6 (left) to 6 (right). */
  public var bend(default, null):Vector<Float>;
  /** Height of each segment's start. */
  public var height(default, null):Vector<Float>;

  public function new(prng:Prng) {
    bend = new Vector<Float>(COUNT + 400, true);
    height = new Vector<Float>(COUNT + 400, true);
    var at = 24;
    var side = prng.unit() < 0.5 ? -1.0 : 1.0;
    while (at < COUNT) {
      var strength = prng.range(2.4, 5.4);
      var length = Std.int(prng.range(26, 58));
      at = turn(at, 12, length, 12, side * strength);
      if (prng.unit() < 0.45) at += Std.int(prng.range(6, 26));
      if (prng.unit() < 0.72) side = -side;
    }
    at = 40;
    var level = 0.0;
    while (at < COUNT) {
      var length = Std.int(prng.range(40, 90));
      var target = prng.range(-1500, 1500);
      for (i in 0...length) height[at + i] = ease(level, target, i / length);
      level = target;
      at += length;
    }
    for (i in at...COUNT + 400) height[i] = level;
  }

  public inline function bendAt(distance:Float):Float return bend[Std.int(distance / SEGMENT)];

  public function heightAt(distance:Float):Float {
    var index = Std.int(distance / SEGMENT);
    var part = distance / SEGMENT - index;
    return height[index] + (height[index + 1] - height[index]) * part;
  }

  /** Mean bend over `count` segments from that distance on. */
  public function bendAhead(distance:Float, from:Int, count:Int):Float {
    var first = Std.int(distance / SEGMENT) + from;
    var sum = 0.0;
    for (i in 0...count) sum += bend[first + i];
    return sum / count;
  }

  function turn(at:Int, enter:Int, hold:Int, leave:Int, strength:Float):Int {
    for (i in 0...enter) bend[at + i] = strength * (i / enter) * (i / enter);
    for (i in 0...hold) bend[at + enter + i] = strength;
    for (i in 0...leave) bend[at + enter + hold + i] = ease(strength, 0, i / leave);
    return at + enter + hold + leave;
  }

  static inline function ease(from:Float, to:Float, part:Float):Float
    return from + (to - from) * (0.5 - Math.cos(part * Math.PI) * 0.5);
}
