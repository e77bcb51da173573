import flash.display.Shape;
import flash.display.Sprite;

/** Draws an Errand from above: the town in its evening light, cars, lanterns, displays. */
class Scene extends Sprite {
  static inline var GLOWS = 26;
  static inline var AHEAD = 8;
  static inline var MARKS = 70;

  var eye = new Eye();
  var ground:Ground;
  var pools = new Sprite();
  var marks = new Shape();
  var paper = new Sprite();
  var streets = new Sprite();
  var roofs:Roofs;
  var night = new Shape();
  var halos = new Sprite();
  var rings = new Shape();
  var pointer = Paint.pointer();
  var own = new Sprite();
  var brakes = Paint.brakes();
  var beam = Paint.beam(190, 0.1);
  var others:Array<Sprite> = [];
  var paints:Array<Array<Shape>> = [];
  var lanterns:Array<Shape> = [];
  var poolGlows:Array<Shape> = [];
  var nextHalo = Paint.halo(0xffe27a, 0.75, 58);
  var lampHalos:Array<Shape> = [];
  var board = new Board();

  /** Tyre marks: x, y of both ends, for each. */
  var trail:Array<Float> = [];
  var flashes:Array<{x:Float, y:Float, age:Int}> = [];

  public function new() {
    super();
    ground = new Ground(eye);
    roofs = new Roofs(eye);
    for (n in 0...GLOWS) poolGlows.push(addTo(pools, Paint.halo(0xffb45a, 0.5, 74)));
    for (n in 0...AHEAD) lanterns.push(addTo(paper, n == 0 ? Paint.lantern(0xfff6c8, 0xff9a3c) : Paint.lantern(0xd8c6b0, 0x8c6a64)));
    for (n in 0...Errand.CARS) others.push(neighbour());
    own.addChild(beam);
    own.addChild(Paint.car(0xff6a45, 0xfff2d4, true));
    own.addChild(brakes);
    halos.addChild(nextHalo);
    for (n in 1...AHEAD) lampHalos.push(addTo(halos, Paint.halo(0xffc890, 0.32, 30)));
    for (layer in [ground, marks, paper, streets, roofs, night, pools, own, roofs.lights, halos, rings, pointer, board]) addChild((layer : flash.display.DisplayObject));
  }

  static function addTo(parent:Sprite, shape:Shape):Shape {
    parent.addChild(shape);
    return shape;
  }

  function neighbour():Sprite {
    var car = new Sprite();
    addTo(car, Paint.beam(90, 0.07));
    paints.push([for (paint in Paint.CARS) addTo(car, Paint.car(paint, Draw.blend(paint, 0xffffff, 0.3), false))]);
    streets.addChild(car);
    return car;
  }

  public function restart(errand:Errand):Void {
    eye.x = errand.px;
    eye.y = errand.py;
    trail = [];
    flashes = [];
    board.restart();
  }

  public function draw(errand:Errand):Void {
    eye.x += (errand.px + errand.vx * 11 - eye.x) * 0.14;
    eye.y += (errand.py + errand.vy * 9 - eye.y) * 0.14;
    var jolt = errand.isOver() ? 0 : errand.bump * 0.35;
    eye.x += jolt * ((errand.frame & 1) * 2 - 1);
    eye.y += jolt * (((errand.frame >> 1) & 1) * 2 - 1);
    ground.draw(errand.town, errand.frame);
    paintMarks(errand);
    placeLanterns(errand);
    placeCars(errand);
    roofs.draw(errand.town);
    fall(errand);
    paintRings(errand);
    board.draw(errand);
  }

  function paintMarks(errand:Errand):Void {
    if (errand.isSliding && errand.frame > 0) {
      var cos = Math.cos(errand.heading);
      var sin = Math.sin(errand.heading);
      for (side in [-8.0, 8.0]) {
        var bx = errand.px - cos * 14 - sin * side;
        var by = errand.py - sin * 14 + cos * side;
        for (value in [bx - errand.vx, by - errand.vy, bx, by]) trail.push(value);
      }
      if (trail.length > MARKS * 4) trail = trail.slice(trail.length - MARKS * 4);
    }
    var g = marks.graphics;
    g.clear();
    if (trail.length == 0) return;
    g.lineStyle(4, 0x1c1428, 0.4);
    var n = 0;
    while (n < trail.length) {
      g.moveTo(eye.sx(trail[n]), eye.sy(trail[n + 1]));
      g.lineTo(eye.sx(trail[n + 2]), eye.sy(trail[n + 3]));
      n += 4;
    }
  }

  function placeLanterns(errand:Errand):Void {
    var pulse = 0.5 + 0.5 * Math.sin(errand.frame * 0.35);
    for (n in 0...AHEAD) {
      var lantern = errand.lanterns[errand.next + n];
      var halo = n == 0 ? nextHalo : lampHalos[n - 1];
      put(lanterns[n], lantern.px, lantern.py, 60);
      put(halo, lantern.px, lantern.py, 60);
      lanterns[n].scaleX = lanterns[n].scaleY = n == 0 ? 1.25 + 0.15 * pulse : 1;
      halo.alpha = n == 0 ? 0.75 + 0.25 * pulse : 1 - n * 0.09;
    }
    var shown = 0;
    var index = errand.next - 1;
    while (index >= 0 && shown < GLOWS && index > errand.next - 40) {
      var lantern = errand.lanterns[index--];
      if (lantern.isLit && eye.sees(lantern.px, lantern.py, 0, 0, 80)) put(poolGlows[shown++], lantern.px, lantern.py, 80);
    }
    for (n in shown...GLOWS) poolGlows[n].visible = false;
  }

  function put(thing:flash.display.DisplayObject, wx:Float, wy:Float, margin:Float):Void {
    thing.visible = eye.sees(wx, wy, 0, 0, margin);
    thing.x = eye.sx(wx);
    thing.y = eye.sy(wy);
  }

  function placeCars(errand:Errand):Void {
    for (n in 0...Errand.CARS) {
      var car = errand.traffic[n];
      put(others[n], car.px, car.py, 130);
      others[n].rotation = car.heading * 180 / Math.PI;
      for (k in 0...5) paints[n][k].visible = k == car.paint;
    }
    put(own, errand.px, errand.py, 200);
    own.rotation = errand.heading * 180 / Math.PI;
    own.scaleX = own.scaleY = 1.1;
    brakes.visible = errand.isBraking;
    pointer.visible = !errand.isOver();
    pointer.x = own.x;
    pointer.y = own.y;
    var target = errand.lanterns[errand.next];
    pointer.rotation = Math.atan2(target.py - errand.py, target.px - errand.px) * 180 / Math.PI;
  }

  /** Evening: the less daylight is left, the darker, and the more the lamps matter. */
  function fall(errand:Errand):Void {
    var dusk = Math.min(1, 0.75 * errand.frame / Errand.FRAMES + 0.5 * (1 - Math.max(0, errand.daylight / Errand.DAYLIGHT)));
    var g = night.graphics;
    g.clear();
    g.beginFill(Draw.blend(0xe8803c, 0x120a3e, Math.min(1, dusk * 1.5)), 0.13 + 0.47 * dusk);
    g.drawRect(0, 0, 640, 480);
    g.endFill();
    roofs.lights.alpha = 0.35 + 0.65 * dusk;
    beam.alpha = 0.4 + 0.6 * dusk;
    pools.alpha = 0.55 + 0.45 * dusk;
    if (errand.news.indexOf("LIT") >= 0) {
      var lantern = errand.lanterns[errand.next - 1];
      flashes.push({x: lantern.px, y: lantern.py, age: 0});
    }
  }

  function paintRings(errand:Errand):Void {
    var g = rings.graphics;
    g.clear();
    for (flash in flashes) {
      flash.age++;
      var t = flash.age / 14;
      g.lineStyle(5 * (1 - t) + 1, 0xfff0b0, 1 - t);
      g.drawCircle(eye.sx(flash.x), eye.sy(flash.y), 14 + 46 * t);
    }
    while (flashes.length > 0 && flashes[0].age >= 14) flashes.shift();
    if (errand.bump > 0 && !errand.isOver()) {
      g.lineStyle(2.5, 0xffffff, errand.bump / 12);
      for (n in 0...8) {
        var angle = n * Math.PI / 4 + 0.3;
        var r = 26 + (12 - errand.bump) * 3;
        g.moveTo(own.x + Math.cos(angle) * r, own.y + Math.sin(angle) * r);
        g.lineTo(own.x + Math.cos(angle) * (r + 9), own.y + Math.sin(angle) * (r + 9));
      }
    }
    g.lineStyle();
  }
}
