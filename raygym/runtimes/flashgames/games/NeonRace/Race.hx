import Bridge.Keys;

/** Another car on the road. */
class Rival {
  public var distance = 0.0;
  public var lane = 0.0;
  public var target = 0.0;
  public var speed = 0.0;
  public var livery = 0;
  public var isPassed = false;

  public function new() {}
}

/** Something that lies on the road. */
class Pickup {
  public static inline var ORB = 0;
  public static inline var PAD = 1;

  public var kind:Int;
  public var distance:Float;
  public var lane:Float;
  public var isTaken = false;

  public function new(kind:Int, distance:Float, lane:Float) {
    this.kind = kind;
    this.distance = distance;
    this.lane = lane;
  }
}

/** The rules of NeonRace, free of drawing. Lengths are world units, times are frames. */
class Race {
  public static inline var FRAMES = 1125;
  public static inline var CRUISE = 480.0;
  public static inline var LIMIT = 660.0;
  /** The car's own place ahead of the camera. */
  public static inline var NOSE = 1150.0;
  public static inline var RIVALS = 7;
  static inline var EDGE = 2.1;
  /** How hard a bend pushes the car outward. */
  static inline var PULL = 0.0068;

  public var track(default, null):Track;
  public var rivals(default, null):Array<Rival> = [];
  public var pickups(default, null):Array<Pickup> = [];
  /** Index of the first pick-up that is not behind yet. */
  public var nextPickup(default, null) = 0;
  public var frame(default, null) = 0;
  public var score(default, null) = 0.0;
  /** Of the camera. */
  public var distance(default, null) = 0.0;
  public var speed(default, null) = 0.0;
  /** Across the road: -1 is its left edge, 1 its right one. */
  public var lane(default, null) = 0.0;
  public var steer(default, null) = 0.0;
  public var nitro(default, null) = 0.5;
  public var isBurning(default, null) = false;
  /** 0 to 1; clean fast driving fills it, and points are worth up to three times as much. */
  public var flow(default, null) = 0.0;
  public var boost(default, null) = 0;
  public var shake(default, null) = 0;
  /** Frames during which nothing can be hit again. */
  public var ghost(default, null) = 0;
  public var overtakes(default, null) = 0;
  public var crashes(default, null) = 0;
  /** What just happened, for the view to show; the view empties it. */
  public var news:Array<String> = [];

  var prng:Prng;

  public function new(seed:Int) {
    prng = new Prng(seed);
    track = new Track(prng);
    for (i in 0...RIVALS) {
      var rival = new Rival();
      place(rival, 5200 + i * 3900.0);
      rivals.push(rival);
    }
    var at = 45 * Track.SEGMENT * 1.0;
    while (at < 3100.0 * Track.SEGMENT) {
      var lane = (prng.below(3) - 1) * 0.6;
      if (prng.unit() < 0.3) {
        pickups.push(new Pickup(Pickup.PAD, at, lane));
        at += 12 * Track.SEGMENT;
      } else {
        var next = (prng.below(3) - 1) * 0.6;
        for (i in 0...5) {
          pickups.push(new Pickup(Pickup.ORB, at, lane + (next - lane) * i / 4));
          at += 2.5 * Track.SEGMENT;
        }
      }
      at += prng.range(14, 34) * Track.SEGMENT;
    }
  }

  public inline function isOffRoad():Bool return lane > 1.02 || lane < -1.02;

  public inline function isOver():Bool return frame >= FRAMES;

  public inline function factor():Float return 1 + 2 * flow;

  public function advance(keys:Keys):Void {
    frame++;
    drive(keys);
    moveRivals();
    meetRivals();
    meetPickups();
    count();
  }

  function drive(keys:Keys):Void {
    var share = speed / CRUISE;
    isBurning = keys.action && keys.up && nitro > (isBurning ? 0.0 : 0.12);
    if (isBurning) nitro = Math.max(0, nitro - 1 / 60);
    var top = isBurning ? LIMIT : (boost > 0 ? 590.0 : CRUISE + 20);
    if (keys.up) speed += (isBurning ? 15 : 9) * (1 - speed / top);
    else speed -= 4.5 + 1.5 * share;
    if (keys.down) speed -= 17;
    if (speed > CRUISE + 20 && !isBurning && boost == 0) speed -= 2.5;
    if (boost > 0) boost--;
    if (isOffRoad() && speed > 105) speed -= (speed - 105) * 0.085;
    if (speed < 0) speed = 0;
    share = speed / CRUISE;

    var wanted = (keys.right ? 1.0 : 0.0) - (keys.left ? 1.0 : 0.0);
    steer += (wanted - steer) * 0.34;
    lane += steer * 0.058 * Math.min(1, 0.25 * Math.min(1, share * 6) + 0.8 * share);
    lane -= track.bendAt(distance + NOSE) * share * share * PULL;
    if (lane > EDGE || lane < -EDGE) {
      lane = lane > 0 ? EDGE : -EDGE;
      speed *= 0.97;
      if (speed > 150) shake = 3;
    }
    distance += speed;
  }

  function moveRivals():Void {
    for (rival in rivals) {
      var gap = rival.distance - distance - NOSE;
      if (gap < 27000) rival.distance += rival.speed;
      if (gap < -2200) place(rival, distance + prng.range(21000, 26500));
      if (prng.unit() < 0.006) rival.target = (prng.below(3) - 1) * 0.6;
      var step = rival.target - rival.lane;
      rival.lane += Math.max(-0.016, Math.min(0.016, step));
    }
  }

  function place(rival:Rival, at:Float):Void {
    rival.distance = at;
    rival.lane = rival.target = (prng.below(3) - 1) * 0.6;
    rival.speed = prng.range(0.42, 0.66) * CRUISE;
    rival.livery = prng.below(4);
    rival.isPassed = false;
    for (other in rivals) if (other != rival && Math.abs(other.distance - at) < 1500) rival.distance += 1700;
  }

  function meetRivals():Void {
    var nose = distance + NOSE;
    for (rival in rivals) {
      var gap = rival.distance - nose;
      var side = lane - rival.lane;
      if (ghost == 0 && gap < 330 && gap > -330 && Math.abs(side) < 0.4) crash(rival, gap, side);
      else if (gap < -200 && !rival.isPassed) {
        rival.isPassed = true;
        if (isOffRoad()) continue;
        overtakes++;
        score += 8 * factor();
        nitro = Math.min(1, nitro + 0.08);
        news.push(Math.abs(side) < 0.62 ? "CLOSE PASS" : "OVERTAKE");
        if (Math.abs(side) < 0.62) score += 4 * factor();
      }
    }
  }

  function crash(rival:Rival, gap:Float, side:Float):Void {
    if (gap > 0) {
      speed = Math.min(speed, rival.speed * 0.6);
      rival.speed = Math.min(rival.speed + 40, 0.8 * CRUISE);
      rival.distance += 300;
    } else rival.distance -= 330;
    lane += side < 0 ? -0.12 : 0.12;
    flow *= 0.25;
    crashes++;
    ghost = 30;
    shake = 10;
    news.push("CRASH");
  }

  function meetPickups():Void {
    var nose = distance + NOSE;
    while (nextPickup < pickups.length && pickups[nextPickup].distance <= nose) {
      var pickup = pickups[nextPickup++];
      if (Math.abs(pickup.lane - lane) > 0.34) continue;
      pickup.isTaken = true;
      if (pickup.kind == Pickup.PAD) {
        speed = Math.max(speed, Math.min(590, speed + 150));
        boost = 28;
        score += 3 * factor();
        news.push("BOOST");
      } else {
        nitro = Math.min(1, nitro + 0.06);
        score += 1.5 * factor();
      }
    }
  }

  function count():Void {
    var share = speed / CRUISE;
    if (shake > 0) shake--;
    if (ghost > 0) ghost--;
    if (isOffRoad()) {
      flow = Math.max(0, flow - 1 / 30);
      score += 0.2 * share * share;
      return;
    }
    if (share > 0.75) flow = Math.min(1, flow + 1 / 220);
    else if (share < 0.5) flow = Math.max(0, flow - 1 / 120);
    score += 0.5 * share * share * factor();
  }

  public function state():Dynamic {
    var nose = distance + NOSE;
    var facts:Dynamic = {
      frame: frame, lane: lane, speed: speed / CRUISE, steer: steer, nitro: nitro, flow: flow,
      distance: distance / Track.SEGMENT, off_road: isOffRoad() ? 1 : 0, ghost: ghost, overtakes: overtakes, crashes: crashes,
      bend: track.bendAt(nose), bend_near: track.bendAhead(nose, 2, 8), bend_far: track.bendAhead(nose, 10, 20)
    };
    var ahead = [for (rival in rivals) if (rival.distance > nose - 400) rival];
    ahead.sort(function(a, b) return a.distance < b.distance ? -1 : 1);
    for (i in 0...3) {
      var rival = ahead[i];
      Reflect.setField(facts, 'rival${i}_gap', rival == null ? 999 : (rival.distance - nose) / Track.SEGMENT);
      Reflect.setField(facts, 'rival${i}_lane', rival == null ? 0 : rival.lane);
      Reflect.setField(facts, 'rival${i}_aim', rival == null ? 0 : rival.target);
      Reflect.setField(facts, 'rival${i}_speed', rival == null ? 0 : rival.speed / CRUISE);
    }
    var pickup = nextPickup < pickups.length ? pickups[nextPickup] : null;
    facts.pickup_gap = pickup == null ? 999 : (pickup.distance - nose) / Track.SEGMENT;
    facts.pickup_lane = pickup == null ? 0 : pickup.lane;
    facts.pickup_kind = pickup == null ? 0 : pickup.kind;
    return facts;
  }
}
