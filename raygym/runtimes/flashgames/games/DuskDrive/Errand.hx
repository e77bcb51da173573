import Bridge.Keys;
import Traffic.Neighbour;

/** A paper lantern that waits to be lit. */
class Lantern {
  public var px:Float;
  public var py:Float;
  public var isLit = false;

  public function new(px:Float, py:Float) {
    this.px = px;
    this.py = py;
  }
}

/** The rules of DuskDrive, free of drawing. Lengths are pixels, times are frames. */
class Errand {
  public static inline var FRAMES = 1125;
  public static inline var DAYLIGHT = 400.0;
  public static inline var CARS = 10;
  /** How many lanterns of the route can be lit at a time; lighting a later one gives up those before. */
  public static inline var REACH = 3;
  static inline var TOUCH = 42.0;
  static inline var RADIUS = 13.0;
  static inline var TOP = 12.5;

  public var town(default, null):Town;
  public var lanterns(default, null):Array<Lantern> = [];
  public var next(default, null) = 0;
  public var lit(default, null) = 0;
  public var traffic(default, null):Array<Neighbour> = [];
  public var frame(default, null) = 0;
  public var score(default, null) = 0.0;
  public var daylight(default, null) = DAYLIGHT;
  /** Lanterns in a row; each makes the next worth more, up to three times as much. */
  public var streak(default, null) = 0.0;
  public var px(default, null) = 0.0;
  public var py(default, null) = 0.0;
  public var vx(default, null) = 0.0;
  public var vy(default, null) = 0.0;
  public var heading(default, null) = 0.0;
  public var isSliding(default, null) = false;
  public var isBraking(default, null) = false;
  public var bump(default, null) = 0;
  public var bumps(default, null) = 0;
  /** What just happened, for the view to show; the view empties it. */
  public var news:Array<String> = [];

  var prng:Prng;
  var steer = 0.0;
  var nearest = 0.0;
  var sinceLit = 0;
  var lastX = 0.0;
  var lastY = 0.0;

  public function new(seed:Int) {
    prng = new Prng(seed ^ 0x0D05C);
    town = new Town(prng);
    layRoute();
    for (n in 0...CARS) {
      var car = new Neighbour();
      traffic.push(car);
      send(car, 220, 900);
    }
    nearest = gapTo(lanterns[0]);
  }

  public inline function isOver():Bool return frame >= FRAMES || daylight <= 0;

  public inline function factor():Float return 1 + Math.min(2, streak * 0.1);

  public inline function speed():Float return Math.sqrt(vx * vx + vy * vy);

  /** A walk through the streets that never turns back, with lanterns along it. */
  function layRoute():Void {
    var i = 3 + prng.below(3);
    var j = 3 + prng.below(2);
    var direction = prng.below(4);
    while (!town.leads(i, j, direction)) direction = (direction + 1) % 4;
    px = town.xs[i] + Town.stepX(direction) * 20;
    py = town.ys[j] + Town.stepY(direction) * 20;
    heading = direction * Math.PI / 2;
    lastX = px;
    lastY = py;
    var sway = prng.range(0, 6);
    while (lanterns.length < 330) {
      var fromX = town.xs[i];
      var fromY = town.ys[j];
      i += Town.stepX(direction);
      j += Town.stepY(direction);
      var count = Math.round((Math.abs(town.xs[i] - fromX) + Math.abs(town.ys[j] - fromY)) / 82);
      for (k in 1...count + 1) {
        sway += prng.range(0.5, 1.3);
        var side = k == count ? 0 : 26 * Math.sin(sway);
        lanterns.push(new Lantern(
          fromX + (town.xs[i] - fromX) * k / count + Town.stepY(direction) * side,
          fromY + (town.ys[j] - fromY) * k / count + Town.stepX(direction) * side
        ));
      }
      direction = turnAt(i, j, direction);
    }
  }

  function turnAt(i:Int, j:Int, direction:Int):Int {
    var ways = [for (turn in [0, 1, 3]) if (town.leads(i, j, (direction + turn) % 4)) (direction + turn) % 4];
    if (ways.length == 0) return (direction + 2) % 4;
    return ways[prng.below(ways.length)];
  }

  /** Lets a car set out somewhere between two distances from the player. */
  function send(car:Neighbour, closest:Float, farthest:Float):Void {
    for (attempt in 0...30) {
      var i = prng.below(Town.COLUMNS);
      var j = prng.below(Town.ROWS);
      var direction = prng.below(4);
      if (!town.leads(i, j, direction)) continue;
      car.start(town, prng, i, j, direction, prng.range(0, 150));
      var gap = Math.sqrt((car.px - px) * (car.px - px) + (car.py - py) * (car.py - py));
      if (gap > closest && gap < farthest) return;
    }
  }

  public function advance(keys:Keys):Void {
    frame++;
    daylight--;
    drive(keys);
    moveTraffic();
    meetLanterns();
    if (bump > 0) bump--;
    if (isOver()) news.push("NIGHT");
  }

  function drive(keys:Keys):Void {
    var cos = Math.cos(heading);
    var sin = Math.sin(heading);
    var forward = vx * cos + vy * sin;
    var sideways = vy * cos - vx * sin;
    isBraking = keys.down;
    if (keys.up) forward += 0.62 * (1 - forward / TOP);
    if (keys.down) forward -= forward > 0 ? 0.95 : 0.35 * (1 + forward / 4);
    if (keys.action) forward *= 0.968;
    forward *= keys.up || keys.down ? 0.998 : 0.972;
    sideways *= keys.action ? 0.93 : 0.74;
    vx = forward * cos - sideways * sin;
    vy = forward * sin + sideways * cos;
    isSliding = Math.abs(sideways) > 1.7;

    var wanted = (keys.right ? 1.0 : 0.0) - (keys.left ? 1.0 : 0.0);
    steer += (wanted - steer) * 0.45;
    var grip = Math.min(1, (Math.abs(forward) + (keys.up || keys.down ? 2.0 : 0)) / 4.5);
    var rate = (keys.action ? 0.125 : 0.086) * (1 - 0.018 * Math.abs(forward));
    heading += steer * rate * grip * (forward < -0.4 ? -1 : 1);
    if (heading > Math.PI) heading -= 2 * Math.PI;
    if (heading < -Math.PI) heading += 2 * Math.PI;
    slide();
  }

  /** Moves the car, along walls where it meets them. */
  function slide():Void {
    if (town.isOpen(px + vx, py + vy, RADIUS)) {
      px += vx;
      py += vy;
      return;
    }
    var before = speed();
    if (town.isOpen(px + vx, py, RADIUS)) {
      px += vx;
      vy *= -0.3;
      vx *= 0.93;
    } else if (town.isOpen(px, py + vy, RADIUS)) {
      py += vy;
      vx *= -0.3;
      vy *= 0.93;
    } else {
      vx *= -0.3;
      vy *= -0.3;
    }
    if (before - speed() > 3) hit("WALL", 4);
  }

  function hit(what:String, loss:Float):Void {
    if (bump > 0) return;
    bump = 12;
    bumps++;
    streak = Math.max(0, streak - loss);
    news.push(what);
  }

  function moveTraffic():Void {
    for (car in traffic) {
      var cos = Math.cos(car.heading);
      var sin = Math.sin(car.heading);
      var isBlocked = isAhead(car, cos, sin, px, py);
      for (other in traffic) if (other != car && isAhead(car, cos, sin, other.px, other.py)) isBlocked = true;
      car.advance(town, prng, isBlocked);
      var dx = px - car.px;
      var dy = py - car.py;
      var gap = Math.sqrt(dx * dx + dy * dy);
      if (gap > 1000) send(car, 520, 900);
      // Two circles a car: its front and its tail.
      for (end in [-9.0, 9.0]) knock(car, dx - cos * end, dy - sin * end);
    }
  }

  static function isAhead(car:Neighbour, cos:Float, sin:Float, ox:Float, oy:Float):Bool {
    var ahead = (ox - car.px) * cos + (oy - car.py) * sin;
    var aside = (oy - car.py) * cos - (ox - car.px) * sin;
    return ahead > 8 && ahead < 62 && aside > -20 && aside < 20;
  }

  function knock(car:Neighbour, dx:Float, dy:Float):Void {
    var gap = Math.sqrt(dx * dx + dy * dy);
    if (gap > 26 || gap < 0.01) return;
    var nx = dx / gap;
    var ny = dy / gap;
    if (town.isOpen(px + nx * (26 - gap), py + ny * (26 - gap), RADIUS)) {
      px += nx * (26 - gap);
      py += ny * (26 - gap);
    }
    var along = vx * nx + vy * ny;
    if (along > 0) return;
    vx -= 1.35 * along * nx;
    vy -= 1.35 * along * ny;
    vx *= 0.8;
    vy *= 0.8;
    car.stunned = 22;
    if (along < -2) hit("CRASH", 8);
  }

  function gapTo(lantern:Lantern):Float {
    var dx = lantern.px - px;
    var dy = lantern.py - py;
    return Math.sqrt(dx * dx + dy * dy);
  }

  function meetLanterns():Void {
    sinceLit++;
    if (sinceLit > 60) streak = Math.max(0, streak - 0.1);
    var gap = gapTo(lanterns[next]);
    if (gap < nearest) {
      score += (nearest - gap) * 0.02;
      nearest = gap;
    }
    for (k in 0...REACH) {
      var lantern = lanterns[next + k];
      if (gapTo(lantern) > TOUCH) continue;
      lantern.isLit = true;
      lastX = lantern.px;
      lastY = lantern.py;
      lit++;
      sinceLit = 0;
      score += 5 * factor();
      streak = k == 0 ? Math.min(20, streak + 1) : streak * 0.7;
      daylight = Math.min(DAYLIGHT, daylight + 22);
      next += k + 1;
      nearest = gapTo(lanterns[next]);
      news.push("LIT");
      return;
    }
  }

  public function state():Dynamic {
    var cos = Math.cos(heading);
    var sin = Math.sin(heading);
    var facts:Dynamic = {
      frame: frame, px: px, py: py, heading: heading, speed: vx * cos + vy * sin, slip: vy * cos - vx * sin,
      steer: steer, daylight: daylight / DAYLIGHT, streak: streak, lamps: lit, hits: bumps
    };
    for (k in 0...6) tell(facts, 'lamp$k', lanterns[next + k].px, lanterns[next + k].py, cos, sin);
    tell(facts, "last", lastX, lastY, cos, sin);
    var cars = traffic.copy();
    cars.sort(function(a, b) return away(a) < away(b) ? -1 : 1);
    for (k in 0...3) {
      tell(facts, 'car$k', cars[k].px, cars[k].py, cos, sin);
      Reflect.setField(facts, 'car${k}_heading', cars[k].heading - heading);
      Reflect.setField(facts, 'car${k}_speed', cars[k].speed);
    }
    return facts;
  }

  function away(car:Neighbour):Float return (car.px - px) * (car.px - px) + (car.py - py) * (car.py - py);

  function tell(facts:Dynamic, name:String, ox:Float, oy:Float, cos:Float, sin:Float):Void {
    Reflect.setField(facts, name + "_ahead", (ox - px) * cos + (oy - py) * sin);
    Reflect.setField(facts, name + "_side", (oy - py) * cos - (ox - px) * sin);
  }
}
