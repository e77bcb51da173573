/** A car of somebody who is on the way home: keeps right, turns at random, brakes for others. */
class Neighbour {
  public static inline var LANE = 29.0;
  static inline var BEND = 62.0;

  public var px = 0.0;
  public var py = 0.0;
  public var heading = 0.0;
  public var speed = 0.0;
  public var paint = 0;
  public var stunned = 0;

  var i = 0;
  var j = 0;
  var direction = 0;
  var next = 0;
  var along = 0.0;
  var waited = 0;
  var cruise = 4.0;

  public function new() {}

  /** Sets out from a crossing in a direction in which a street leads. */
  public function start(town:Town, prng:Prng, i:Int, j:Int, direction:Int, along:Float):Void {
    this.i = i;
    this.j = j;
    this.direction = direction;
    this.along = along;
    cruise = prng.range(3.2, 4.8);
    speed = cruise;
    paint = prng.below(5);
    stunned = waited = 0;
    next = choose(town, prng);
    locate(town);
  }

  public function advance(town:Town, prng:Prng, isBlocked:Bool):Void {
    if (stunned > 0) {
      stunned--;
      speed = 0;
      return;
    }
    waited = isBlocked ? waited + 1 : 0;
    var wanted = isBlocked && waited < 40 ? 0.0 : cruise;
    speed += (wanted - speed) * (wanted < speed ? 0.4 : 0.12);
    along += speed;
    if (along > length(town) + bendLength()) {
      along -= length(town) + bendLength();
      i += Town.stepX(direction);
      j += Town.stepY(direction);
      direction = next;
      next = choose(town, prng);
    }
    locate(town);
  }

  /** From the end of one bend to the start of the next. */
  function length(town:Town):Float {
    var whole = direction % 2 == 0 ? town.xs[i + Town.stepX(direction)] - town.xs[i] : town.ys[j + Town.stepY(direction)] - town.ys[j];
    return Math.abs(whole) - 2 * BEND;
  }

  function bendLength():Float {
    if (next == direction) return 2 * BEND;
    return (next - direction + 4) % 4 == 1 ? 60 : 140;
  }

  function choose(town:Town, prng:Prng):Int {
    var ni = i + Town.stepX(direction);
    var nj = j + Town.stepY(direction);
    var first = prng.below(3);
    for (k in 0...3) {
      var turn = [0, 1, 3][(first + k) % 3];
      if (town.leads(ni, nj, (direction + turn) % 4)) return (direction + turn) % 4;
    }
    return (direction + 2) % 4;
  }

  function locate(town:Town):Void {
    var dx = Town.stepX(direction);
    var dy = Town.stepY(direction);
    var cx = town.xs[i];
    var cy = town.ys[j];
    var straight = length(town);
    if (along <= straight) {
      px = cx + dx * (BEND + along) - dy * LANE;
      py = cy + dy * (BEND + along) + dx * LANE;
      heading = Math.atan2(dy, dx);
      return;
    }
    var t = (along - straight) / bendLength();
    var ex = Town.stepX(next);
    var ey = Town.stepY(next);
    cx = town.xs[i + dx];
    cy = town.ys[j + dy];
    var ax = cx - dx * BEND - dy * LANE;
    var ay = cy - dy * BEND + dx * LANE;
    var bx = cx + ex * BEND - ey * LANE;
    var by = cy + ey * BEND + ex * LANE;
    var mx = next == direction ? (ax + bx) / 2 : (dx != 0 ? bx : ax);
    var my = next == direction ? (ay + by) / 2 : (dx != 0 ? ay : by);
    var u = 1 - t;
    px = u * u * ax + 2 * u * t * mx + t * t * bx;
    py = u * u * ay + 2 * u * t * my + t * t * by;
    heading = Math.atan2(u * (my - ay) + t * (by - my), u * (mx - ax) + t * (bx - mx));
  }
}
