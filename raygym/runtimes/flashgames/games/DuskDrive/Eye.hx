/** The point of the town that is in the middle of the picture. */
class Eye {
  public static inline var HALF_W = 320.0;
  public static inline var HALF_H = 240.0;

  public var x = 0.0;
  public var y = 0.0;

  public function new() {}

  /** Where a place of the town is in the picture. */
  public inline function sx(value:Float):Float return value - x + HALF_W;

  public inline function sy(value:Float):Float return value - y + HALF_H;

  /** Whether any of a rectangle is in the picture, or within `margin` of it. */
  public inline function sees(left:Float, top:Float, w:Float, h:Float, margin:Float):Bool
    return left < x + HALF_W + margin && left + w > x - HALF_W - margin && top < y + HALF_H + margin && top + h > y - HALF_H - margin;
}
