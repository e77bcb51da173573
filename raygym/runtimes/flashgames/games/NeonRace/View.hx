import flash.Vector;
import flash.display.Shape;
import flash.display.Sprite;
import Race.Pickup;

/** Draws a Race: sky and skyline, road, what stands on it, the player's car, the displays. */
class View extends Sprite {
  static inline var HORIZON = 196.0;
  static inline var FOCAL = 333.0;
  static inline var CAMERA = 794.0;
  static inline var ROAD = 1000.0;
  static inline var DEPTH = 84;
  static inline var NEAR = 260.0;
  static inline var CURL = 1.35;
  static inline var STRIPE = 3;

  var skies:Array<Shape>;
  var suns:Array<Shape>;
  var hills = new Sprite();
  var city = new Sprite();
  var road = new Shape();
  var haze:Array<Shape>;
  var things = new Sprite();
  var stock:Stock;
  var cars:Array<Shape>;
  var flames:Shape;
  var car = new Sprite();
  var sparks = new Shape();
  var wind = new Shape();
  var world = new Sprite();
  var dash:Dash;

  /** Of each segment's start, from the camera on: screen x, y and half-width of the road. */
  var xs = new Vector<Float>(DEPTH + 1, true);
  var ys = new Vector<Float>(DEPTH + 1, true);
  var ws = new Vector<Float>(DEPTH + 1, true);
  var shown = new Vector<Bool>(DEPTH + 1, true);
  var turned = 0.0;
  var lastDistance = 0.0;

  public function new() {
    super();
    addChild(world);
    skies = [for (i in 0...Art.SECTORS.length) Art.sky(i, HORIZON)];
    suns = [for (i in 0...Art.SECTORS.length) Art.sun(i)];
    haze = [for (i in 0...Art.SECTORS.length) mist(i)];
    for (sky in skies) world.addChild(sky);
    for (sun in suns) world.addChild(sun);
    hills.addChild(Art.hills(0x24104a, 0xff6ab0));
    city.addChild(Art.city(0x0d0824, 0xffd88a, 5));
    for (layer in [hills, city]) {
      var twin = layer == hills ? Art.hills(0x24104a, 0xff6ab0) : Art.city(0x0d0824, 0xffd88a, 5);
      twin.x = 1280;
      layer.addChild(twin);
      layer.y = HORIZON;
      world.addChild(layer);
    }
    world.addChild(road);
    for (h in haze) world.addChild(h);
    world.addChild(things);
    stock = new Stock(things);
    flames = Art.flames();
    cars = [for (i in 0...5) Art.car(0xe9ecff, 0x4a4f86, 0x3fe8ff, 0xff2f6e, i - 2)];
    for (body in cars) car.addChild(body);
    car.addChild(flames);
    world.addChild(car);
    world.addChild(sparks);
    world.addChild(wind);
    dash = new Dash();
    addChild(dash);
  }

  public function restart():Void {
    turned = lastDistance = 0;
    dash.restart();
  }

  /** Remembers what depends on every frame. */
  public function follow(race:Race):Void {
    var travelled = race.distance - lastDistance;
    lastDistance = race.distance;
    turned += race.track.bendAt(race.distance) * travelled / Track.SEGMENT * 0.55;
    dash.follow(race);
  }

  public function draw(race:Race):Void {
    var base = Std.int(race.distance / Track.SEGMENT);
    project(race, base);
    backdrop(race);
    paintRoad(race, base);
    place(race, base);
    drive(race);
    weather(race);
    var jolt = race.shake > 0 && !race.isOver() ? race.shake * 0.7 : 0;
    world.x = jolt * ((race.frame & 1) * 2 - 1);
    world.y = jolt * (((race.frame >> 1) & 1) * 2 - 1);
    dash.draw(race);
  }

  function project(race:Race, base:Int):Void {
    var track = race.track;
    var offset = race.distance - base * Track.SEGMENT;
    var eye = track.heightAt(race.distance + Race.NOSE) * 0.7 + track.heightAt(race.distance + 300) * 0.3 + CAMERA;
    var shift = -track.bend[base] * CURL * offset / Track.SEGMENT;
    var sideways = 0.0;
    var lowest = 100000.0;
    var x0 = -race.lane * ROAD - noseShift(race, base, offset);
    for (i in 0...DEPTH + 1) {
      var z = i * Track.SEGMENT - offset;
      if (z < NEAR) z = NEAR;
      var k = FOCAL / z;
      xs[i] = 320 + (x0 + sideways) * k;
      ys[i] = HORIZON + (eye - track.height[base + i]) * k;
      ws[i] = ROAD * k;
      shown[i] = ys[i] < lowest - 0.05;
      if (shown[i]) lowest = ys[i];
      sideways += shift;
      shift += track.bend[base + i] * CURL;
    }
  }

  /** How far the road has swung aside where the car is, so that lane 0 stays its middle there. */
  function noseShift(race:Race, base:Int, offset:Float):Float {
    var shift = -race.track.bend[base] * CURL * offset / Track.SEGMENT;
    var part = (Race.NOSE + offset) / Track.SEGMENT;
    var sum = 0.0;
    for (i in 0...Std.int(part)) {
      sum += shift;
      shift += race.track.bend[base + i] * CURL;
    }
    return sum + shift * (part - Std.int(part));
  }

  function backdrop(race:Race):Void {
    var part = race.distance / Track.SEGMENT / Track.SECTOR;
    var sector = Std.int(part);
    var mix = Math.max(0, Math.min(1, (part - sector - 0.94) / 0.06));
    var count = Art.SECTORS.length;
    for (i in 0...count) {
      var weight = i == sector % count ? 1.0 : (i == (sector + 1) % count ? mix : 0.0);
      for (layer in [skies[i], suns[i], haze[i]]) {
        layer.visible = weight > 0;
        layer.alpha = layer == skies[i] ? weight : (i == sector % count ? 1 - mix : weight);
      }
      suns[i].x = 320 - wrap(turned * 0.35 + 640, 1280) + 640;
      suns[i].y = HORIZON - 52;
    }
    // The next sky fades in over the present one.
    if (mix > 0) world.setChildIndex(skies[(sector + 1) % count], count - 1);
    hills.x = -wrap(turned * 0.6, 1280);
    city.x = -wrap(turned, 1280);
  }

  static inline function wrap(value:Float, length:Float):Float return value - Math.floor(value / length) * length;

  function mist(sector:Int):Shape {
    var shape = new Shape();
    var color = Art.SECTORS[sector].glow;
    Draw.verticalGradient(shape.graphics, [color, color, color], [0, 0.5, 0], [0, 70, 255], 0, HORIZON - 22, 640, 80);
    return shape;
  }

  function paintRoad(race:Race, base:Int):Void {
    var part = race.distance / Track.SEGMENT / Track.SECTOR;
    var sector = Std.int(part);
    var mix = Math.max(0, Math.min(1, (part - sector - 0.94) / 0.06));
    var from = Art.SECTORS[sector % Art.SECTORS.length];
    var to = Art.SECTORS[(sector + 1) % Art.SECTORS.length];
    var g = road.graphics;
    g.clear();
    var top = HORIZON;
    for (i in 0...DEPTH + 1) if (shown[i] && ys[i] < top) top = ys[i];
    g.beginFill(Draw.blend(from.ground, to.ground, mix));
    g.drawRect(-12, top, 664, 500 - top);
    g.endFill();
    g.beginFill(Draw.blend(from.band, to.band, mix));
    for (i in 0...52) if (shown[i + 1] && isLight(base + i)) g.drawRect(-12, ys[i + 1], 664, ys[i] - ys[i + 1]);
    g.endFill();
    grid(Draw.blend(from.grid, to.grid, mix), base);
    var edge = Draw.blend(from.edge, to.edge, mix);
    stripe(0, DEPTH, 1, base, -1.0, 1.0, 0x1b1838, 1);
    stripe(0, 52, 2, base, -1.0, 1.0, 0x221e46, 1);
    stripe(0, DEPTH, 1, base, -1.22, -0.94, edge, 0.22);
    stripe(0, DEPTH, 1, base, 0.94, 1.22, edge, 0.22);
    stripe(0, DEPTH, 1, base, -1.08, -0.99, edge, 1);
    stripe(0, DEPTH, 1, base, 0.99, 1.08, edge, 1);
    stripe(0, 52, 2, base, -1.08, -0.99, 0xffffff, 0.8);
    stripe(0, 52, 2, base, 0.99, 1.08, 0xffffff, 0.8);
    stripe(0, 44, 3, base, -0.318, -0.282, 0xcfd6ff, 0.85);
    stripe(0, 44, 3, base, 0.282, 0.318, 0xcfd6ff, 0.85);
    pads(race, base);
    startLine(base);
  }

  static inline function isLight(segment:Int):Bool return Std.int(segment / STRIPE) % 2 == 0;

  /**
   * One band along the road, from `a` to `b` across it (-1 to 1 is its width).
   * @param which 1 all segments, 2 the light ones, 3 the dark ones.
   */
  function stripe(first:Int, last:Int, which:Int, base:Int, a:Float, b:Float, color:Int, opacity:Float):Void {
    var g = road.graphics;
    g.beginFill(color, opacity);
    for (i in first...last) {
      if (!shown[i + 1] || (which == 2 && !isLight(base + i)) || (which == 3 && isLight(base + i))) continue;
      quad(i, a, b);
    }
    g.endFill();
  }

  inline function quad(i:Int, a:Float, b:Float):Void {
    var g = road.graphics;
    g.moveTo(xs[i] + a * ws[i], ys[i]);
    g.lineTo(xs[i + 1] + a * ws[i + 1], ys[i + 1]);
    g.lineTo(xs[i + 1] + b * ws[i + 1], ys[i + 1]);
    g.lineTo(xs[i] + b * ws[i], ys[i]);
    g.lineTo(xs[i] + a * ws[i], ys[i]);
  }

  function grid(color:Int, base:Int):Void {
    var g = road.graphics;
    g.lineStyle(1.4, color, 0.65);
    for (side in [-9.0, -5.6, -3.5, -2.1, 2.1, 3.5, 5.6, 9.0]) {
      var isDown = false;
      for (i in 0...56) {
        if (!shown[i]) isDown = false;
        else {
          var x = xs[i] + side * ws[i];
          if (x < -700 || x > 1340) isDown = false;
          else if (isDown) g.lineTo(x, ys[i]);
          else {
            g.moveTo(x, ys[i]);
            isDown = true;
          }
        }
      }
    }
    for (i in 1...52) if (shown[i] && (base + i) % (2 * STRIPE) == 0) {
      g.moveTo(-12, ys[i]);
      g.lineTo(652, ys[i]);
    }
    g.lineStyle();
  }

  function pads(race:Race, base:Int):Void {
    var g = road.graphics;
    var index = race.nextPickup > 4 ? race.nextPickup - 4 : 0;
    while (index < race.pickups.length) {
      var pickup = race.pickups[index++];
      var i = Std.int(pickup.distance / Track.SEGMENT) - base;
      if (i > 46) break;
      if (pickup.kind != Pickup.PAD || i < 0) continue;
      for (row in 0...3) {
        var near = i + row;
        if (!shown[near + 1]) continue;
        g.beginFill(0x20e0ff, 0.3);
        quad(near, pickup.lane - 0.3, pickup.lane + 0.3);
        g.endFill();
        g.beginFill((race.frame >> 1) % 3 == 2 - row ? 0xffffff : 0x38f0ff);
        arrow(near, pickup.lane);
        g.endFill();
      }
    }
  }

  inline function arrow(i:Int, lane:Float):Void {
    var g = road.graphics;
    var mx = (xs[i] + xs[i + 1]) / 2;
    var my = (ys[i] + ys[i + 1]) / 2;
    var mw = (ws[i] + ws[i + 1]) / 2;
    g.moveTo(xs[i] + (lane - 0.26) * ws[i], ys[i]);
    g.lineTo(mx + lane * mw, my * 0.4 + ys[i + 1] * 0.6);
    g.lineTo(xs[i] + (lane + 0.26) * ws[i], ys[i]);
    g.lineTo(mx + (lane + 0.26) * mw, my);
    g.lineTo(xs[i + 1] + lane * ws[i + 1], ys[i + 1] - (ys[i] - ys[i + 1]) * 0.3);
    g.lineTo(mx + (lane - 0.26) * mw, my);
    g.lineTo(xs[i] + (lane - 0.26) * ws[i], ys[i]);
  }

  function startLine(base:Int):Void {
    var i = 14 - base;
    if (i < 0 || i >= DEPTH) return;
    var g = road.graphics;
    for (row in 0...2) {
      g.beginFill(0xffffff, 0.9);
      for (k in 0...8) if ((k + row) % 2 == 0 && shown[i + row + 1]) quad(i + row, -1 + k / 4, -0.75 + k / 4);
      g.endFill();
    }
  }

  function place(race:Race, base:Int):Void {
    stock.begin();
    var offset = race.distance - base * Track.SEGMENT;
    var pickup = race.nextPickup;
    while (pickup < race.pickups.length && race.pickups[pickup].distance < race.distance + 50 * Track.SEGMENT) pickup++;
    var i = DEPTH - 2;
    while (i >= 2) {
      if (ys[i] < 480 + 200) {
        scenery(race, base, i);
        for (k in 0...race.rivals.length) {
          var rival = race.rivals[k];
          if (Std.int(rival.distance / Track.SEGMENT) - base == i) at(stock.rival(rival.livery), i, rival.distance / Track.SEGMENT - base - i, rival.lane, 3.2, 1);
        }
        while (pickup > 0 && Std.int(race.pickups[pickup - 1].distance / Track.SEGMENT) - base >= i) {
          pickup--;
          var orb = race.pickups[pickup];
          if (orb.kind == Pickup.ORB && !orb.isTaken && orb.distance > race.distance) at(stock.orb(), i, orb.distance / Track.SEGMENT - base - i, orb.lane, 2.1, 1);
        }
      }
      i--;
    }
    stock.end();
  }

  /** Puts a thing on the road: `size` is world units for each of its pixels. */
  function at(thing:Shape, i:Int, part:Float, lane:Float, size:Float, flip:Int):Void {
    if (thing == null) return;
    var w = 1 / (1 / ws[i] + (1 / ws[i + 1] - 1 / ws[i]) * part);
    var x = xs[i] + (xs[i + 1] - xs[i]) * part + lane * w;
    var k = w / ROAD * size;
    if (!shown[i] || x < -260 * k - 60 || x > 700 + 260 * k) {
      thing.visible = false;
      return;
    }
    thing.x = x;
    thing.y = ys[i] + (ys[i + 1] - ys[i]) * part;
    thing.scaleX = k * flip;
    thing.scaleY = k;
    thing.alpha = Math.min(1, (DEPTH - i) / 14);
  }

  function scenery(race:Race, base:Int, i:Int):Void {
    var segment = base + i;
    var sector = Std.int(segment / Track.SECTOR) % Art.SECTORS.length;
    if (segment % Track.SECTOR == 0 || segment == 14) at(stock.gate(sector), i, 0, 0, 11, 1);
    if (segment % 10 == 0) {
      at(stock.mast(sector), i, 0, -1.32, 13, 1);
      at(stock.mast(sector), i, 0, 1.32, 13, -1);
    }
    var bend = race.track.bend[segment];
    if (segment % 8 == 3 && (bend > 2 || bend < -2)) at(stock.chevron(), i, 0, bend > 0 ? -1.75 : 1.75, 7, bend > 0 ? 1 : -1);
    var chance = ((segment * 0x2545F491) >>> 7) & 1023;
    if (segment % 4 == 1 && chance < 640) {
      var side = (chance & 1) == 0 ? -1 : 1;
      at(stock.palm(), i, 0, side * (1.9 + (chance & 255) / 90), 12 + (chance & 7), side);
    }
  }

  function drive(race:Race):Void {
    var yaw = Math.round(race.steer * 2) + 2;
    for (i in 0...5) cars[i].visible = i == yaw;
    var k = FOCAL / Race.NOSE * 3.2;
    car.x = 320;
    car.y = HORIZON + CAMERA * FOCAL / Race.NOSE;
    if (race.isOffRoad() && race.speed > 40) car.y += (race.frame & 1) * 2.5;
    car.scaleX = car.scaleY = k;
    car.rotation = race.steer * 2.2;
    car.alpha = race.ghost > 0 && (race.ghost >> 1) % 2 == 0 ? 0.45 : 1;
    flames.visible = race.isBurning || race.boost > 0;
    flames.scaleY = 0.8 + 0.35 * (race.frame % 3) * 0.6;
  }

  function weather(race:Race):Void {
    var g = wind.graphics;
    g.clear();
    var share = race.speed / Race.CRUISE;
    if (share > 0.8 && !race.isOver()) {
      g.lineStyle(2, race.isBurning ? 0x9df0ff : 0xffffff, Math.min(0.5, (share - 0.8) * 0.9));
      for (i in 0...14) {
        var angle = i * 2.399 + (race.frame >> 1) * 0.7;
        var r = 210 + ((i * 97 + race.frame * 53) % 150);
        var cos = Math.cos(angle);
        var sin = Math.sin(angle) * 0.75;
        g.moveTo(320 + cos * r, 240 + sin * r);
        g.lineTo(320 + cos * (r + 50 + 40 * share), 240 + sin * (r + 50 + 40 * share));
      }
      g.lineStyle();
    }
    g = sparks.graphics;
    g.clear();
    if (race.isOver()) return;
    var isDusty = race.isOffRoad() && race.speed > 60;
    if (race.shake > 0 || isDusty) for (i in 0...12) {
      var t = ((race.frame * 7 + i * 31) % 20) / 20;
      var side = i % 2 == 0 ? -1 : 1;
      g.beginFill(isDusty ? 0xb890d8 : 0xffd060, (1 - t) * (isDusty ? 0.4 : 0.9));
      g.drawCircle(320 + side * (34 + 70 * t + (i * 13) % 17), 424 - t * 44 * ((i % 5) / 5 + 0.3), isDusty ? 3 + 7 * t : 2.4);
      g.endFill();
    }
  }
}
