import flash.display.Graphics;
import flash.display.Shape;
import flash.display.Sprite;
import Town.House;
import Town.Plot;

/** Draws an Errand from above: the town in its evening light, cars, lanterns, displays. */
class Scene extends Sprite {
  static inline var HALF_W = 320.0;
  static inline var HALF_H = 240.0;
  static inline var GLOWS = 26;
  static inline var AHEAD = 8;
  static inline var MARKS = 70;

  var ground = new Shape();
  var pools = new Sprite();
  var marks = new Shape();
  var paper = new Sprite();
  var streets = new Sprite();
  var houses = new Shape();
  var night = new Shape();
  var lights = new Shape();
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

  var eyeX = 0.0;
  var eyeY = 0.0;
  /** Tyre marks: x, y of both ends, for each. */
  var trail:Array<Float> = [];
  var flashes:Array<{x:Float, y:Float, age:Int}> = [];

  public function new() {
    super();
    for (n in 0...GLOWS) poolGlows.push(addTo(pools, Paint.halo(0xffb45a, 0.5, 74)));
    for (n in 0...AHEAD) lanterns.push(addTo(paper, n == 0 ? Paint.lantern(0xfff6c8, 0xff9a3c) : Paint.lantern(0xd8c6b0, 0x8c6a64)));
    for (n in 0...Errand.CARS) others.push(neighbour());
    own.addChild(beam);
    own.addChild(Paint.car(0xff6a45, 0xfff2d4, true));
    own.addChild(brakes);
    halos.addChild(nextHalo);
    for (n in 1...AHEAD) lampHalos.push(addTo(halos, Paint.halo(0xffc890, 0.32, 30)));
    for (layer in [ground, marks, paper, streets, houses, night, pools, own, lights, halos, rings, pointer, board]) addChild((layer : flash.display.DisplayObject));
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
    eyeX = errand.px;
    eyeY = errand.py;
    trail = [];
    flashes = [];
    board.restart();
  }

  public function draw(errand:Errand):Void {
    eyeX += (errand.px + errand.vx * 11 - eyeX) * 0.14;
    eyeY += (errand.py + errand.vy * 9 - eyeY) * 0.14;
    var jolt = errand.isOver() ? 0 : errand.bump * 0.35;
    eyeX += jolt * ((errand.frame & 1) * 2 - 1);
    eyeY += jolt * (((errand.frame >> 1) & 1) * 2 - 1);
    paintGround(errand);
    paintMarks(errand);
    placeLanterns(errand);
    placeCars(errand);
    paintHouses(errand.town);
    fall(errand);
    paintRings(errand);
    board.draw(errand);
  }

  inline function sx(value:Float):Float return value - eyeX + HALF_W;

  inline function sy(value:Float):Float return value - eyeY + HALF_H;

  inline function isInView(left:Float, top:Float, w:Float, h:Float, margin:Float):Bool
    return left < eyeX + HALF_W + margin && left + w > eyeX - HALF_W - margin && top < eyeY + HALF_H + margin && top + h > eyeY - HALF_H - margin;

  function paintGround(errand:Errand):Void {
    var town = errand.town;
    var g = ground.graphics;
    g.clear();
    g.beginFill(0x4d4660);
    g.drawRect(0, 0, 640, 480);
    g.endFill();
    outskirts(town, errand.frame);
    // Overlapping shapes within one fill would cut each other out.
    for (pass in 0...4) {
      g.beginFill(pass % 2 == 0 ? 0x8a7b88 : 0x5c7a52);
      for (plot in town.plots) if ((plot.kind == Plot.HEDGE) == (pass < 2) && isInView(plot.x, plot.y, plot.w, plot.h, 20)) {
        if (pass % 2 == 0) pavement(g, plot) else lawn(g, plot);
      }
      g.endFill();
    }
    ponds(town, errand.frame);
    roadPaint(town);
  }

  inline function pavement(g:Graphics, plot:Plot):Void {
    var rim = Town.HALF - Town.KERB;
    if (plot.kind == Plot.HEDGE) {
      var isEast = plot.h == 2 * Town.HALF;
      g.drawRect(sx(plot.x) - (isEast ? rim : 0), sy(plot.y) - (isEast ? 0 : rim), plot.w + (isEast ? 2 * rim : 0), plot.h + (isEast ? 0 : 2 * rim));
    } else g.drawRoundRect(sx(plot.x) - rim, sy(plot.y) - rim, plot.w + 2 * rim, plot.h + 2 * rim, 26);
  }

  inline function lawn(g:Graphics, plot:Plot):Void {
    var inset = plot.kind >= Plot.PARK && plot.kind != Plot.HEDGE ? 3.0 : 0.0;
    g.drawRect(sx(plot.x) + inset, sy(plot.y) + inset, plot.w - 2 * inset, plot.h - 2 * inset);
  }

  function outskirts(town:Town, frame:Int):Void {
    var g = ground.graphics;
    var left = sx(town.xs[0] - Town.HALF);
    var right = sx(town.xs[Town.COLUMNS - 1] + Town.HALF);
    var top = sy(town.ys[0] - Town.HALF);
    var bottom = sy(town.ys[Town.ROWS - 1] + Town.HALF);
    var rim = Town.HALF - Town.KERB;
    for (pass in 0...2) {
      var inset = pass == 0 ? rim : 0.0;
      g.beginFill(pass == 0 ? 0x8a7b88 : 0x3c5a48);
      if (left + inset > 0) g.drawRect(0, 0, left + inset, 480);
      if (right - inset < 640) g.drawRect(right - inset, 0, 640 - right + inset, 480);
      g.endFill();
      g.beginFill(pass == 0 ? 0x8a7b88 : 0x3c5a48);
      if (top + inset > 0) g.drawRect(left, 0, right - left, top + inset);
      if (pass == 0 && bottom - inset < 480) g.drawRect(left, bottom - inset, right - left, inset);
      g.endFill();
    }
    if (left > -20 || right < 660 || top > -20) forest(g, left, top, right);
    if (bottom < 480) shore(g, bottom, frame);
  }

  /** Trees all around the town but for the sea side, one a cell of a wide grid. */
  function forest(g:Graphics, left:Float, top:Float, right:Float):Void {
    var cell = 46.0;
    var firstColumn = Math.floor((eyeX - HALF_W) / cell) - 1;
    var firstRow = Math.floor((eyeY - HALF_H) / cell) - 1;
    for (pass in 0...2) {
      g.beginFill(pass == 0 ? 0x2a4638 : 0x4f7a4e);
      for (row in firstRow...firstRow + 14) for (column in firstColumn...firstColumn + 17) {
        var chance = ((column * 73856093) ^ (row * 19349663)) & 255;
        var tx = sx(column * cell) + (chance & 15);
        var ty = sy(row * cell) + (chance >> 4);
        if (tx > left - 26 && tx < right + 26 && ty > top - 26) continue;
        g.drawCircle(tx - pass * 3, ty - pass * 3, (15 + (chance & 3)) * (pass == 0 ? 1 : 0.6));
      }
      g.endFill();
    }
  }

  /** Beach and sea beyond the southern street. */
  function shore(g:Graphics, top:Float, frame:Int):Void {
    g.beginFill(0xd8b488);
    g.drawRect(0, top, 640, 70);
    g.endFill();
    Draw.verticalGradient(g, [0x6fb0b4, 0x3a6c94, 0x27466e], [1, 1, 1], [0, 90, 255], 0, top + 54, 640, 420);
    g.lineStyle(2, 0xffe6c8, 0.5);
    for (row in 0...5) {
      var y = top + 58 + row * 46;
      if (y > 490) break;
      var phase = frame * 0.05 + row * 1.7;
      var x = -(((eyeX % 80) + 80) % 80) - 80;
      g.moveTo(x, y + 5 * Math.sin(phase));
      while (x < 660) {
        g.curveTo(x + 20, y - 5 + 5 * Math.sin(phase), x + 40, y + 5 * Math.sin(phase));
        g.curveTo(x + 60, y + 5 + 5 * Math.sin(phase), x + 80, y + 5 * Math.sin(phase));
        x += 80;
      }
    }
    g.lineStyle();
    var first = Math.floor((eyeX - HALF_W) / 210) - 1;
    for (n in first...first + 6) {
      var bx = sx(n * 210 + 40 * Math.sin(n * 2.1));
      var by = top + 130 + 46 * Math.sin(n * 1.3) + 2 * Math.sin(frame * 0.06 + n);
      Draw.fill(g, 0xf4e2cc, 1, [bx - 3, by - 2, bx - 3, by - 30, bx - 22, by - 2]);
      Draw.fill(g, 0xff9a6a, 1, [bx, by - 2, bx, by - 34, bx + 17, by - 2]);
      Draw.fill(g, 0x5a2f3c, 1, [bx - 24, by, bx + 20, by, bx + 13, by + 8, bx - 17, by + 8]);
    }
  }

  function ponds(town:Town, frame:Int):Void {
    var g = ground.graphics;
    for (plot in town.plots) if ((plot.kind == Plot.PARK || plot.kind == Plot.POND) && isInView(plot.x, plot.y, plot.w, plot.h, 0)) {
      var cx = sx(plot.x + plot.w / 2);
      var cy = sy(plot.y + plot.h / 2);
      if (plot.kind == Plot.POND) {
        g.beginFill(0xd8c49c);
        g.drawEllipse(cx - plot.w * 0.36, cy - plot.h * 0.36, plot.w * 0.72, plot.h * 0.72);
        g.endFill();
        g.beginFill(0x5b9cb0);
        g.drawEllipse(cx - plot.w * 0.32, cy - plot.h * 0.32, plot.w * 0.64, plot.h * 0.64);
        g.endFill();
        g.lineStyle(1.6, 0xffe6c8, 0.45);
        var r = 10 + (frame % 60) * 0.5;
        g.drawEllipse(cx - r, cy - r * 0.7, 2 * r, 1.4 * r);
        g.lineStyle();
      } else if (plot.kind == Plot.PARK) {
        g.lineStyle(12, 0xc4aa8a);
        g.moveTo(sx(plot.x), sy(plot.y));
        g.curveTo(cx + 30, cy - 10, sx(plot.x + plot.w), sy(plot.y + plot.h));
        g.moveTo(sx(plot.x + plot.w), sy(plot.y));
        g.curveTo(cx - 10, cy + 30, sx(plot.x), sy(plot.y + plot.h));
        g.lineStyle();
        g.beginFill(0xb8c4c8);
        g.drawCircle(cx, cy, 17);
        g.endFill();
        g.beginFill(0x6fb0c4);
        g.drawCircle(cx, cy, 12);
        g.endFill();
      }
    }
  }

  function roadPaint(town:Town):Void {
    var g = ground.graphics;
    g.beginFill(0xe8dcc0, 0.7);
    for (j in 0...Town.ROWS) for (i in 0...Town.COLUMNS) {
      if (town.leads(i, j, 0)) lane(g, town.xs[i], town.xs[i + 1], town.ys[j], true);
      if (town.leads(i, j, 1)) lane(g, town.ys[j], town.ys[j + 1], town.xs[i], false);
    }
    g.endFill();
    g.beginFill(0xd8cdbb, 0.4);
    for (j in 0...Town.ROWS) for (i in 0...Town.COLUMNS) if (isInView(town.xs[i], town.ys[j], 0, 0, 90)) {
      for (direction in 0...4) if (town.leads(i, j, direction)) zebra(g, town.xs[i], town.ys[j], direction);
    }
    g.endFill();
  }

  /** The dashes between the two directions of a street. */
  function lane(g:Graphics, from:Float, to:Float, across:Float, isEast:Bool):Void {
    var eye = isEast ? eyeX : eyeY;
    var half = isEast ? HALF_W : HALF_H;
    if (Math.abs(across - (isEast ? eyeY : eyeX)) > (isEast ? HALF_H : HALF_W) + 4) return;
    var at = from + 88;
    while (at < to - 96) {
      if (at > eye - half - 20 && at < eye + half) {
        if (isEast) g.drawRect(sx(at), sy(across) - 1.5, 17, 3) else g.drawRect(sx(across) - 1.5, sy(at), 3, 17);
      }
      at += 36;
    }
  }

  function zebra(g:Graphics, cx:Float, cy:Float, direction:Int):Void {
    var dx = Town.stepX(direction);
    var dy = Town.stepY(direction);
    for (k in 0...7) {
      var side = -48 + k * 14.5;
      if (dx != 0) g.drawRect(sx(cx + dx * 70) - 7, sy(cy) + side, 14, 8) else g.drawRect(sx(cx) + side, sy(cy + dy * 70) - 7, 8, 14);
    }
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
      g.moveTo(sx(trail[n]), sy(trail[n + 1]));
      g.lineTo(sx(trail[n + 2]), sy(trail[n + 3]));
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
      if (lantern.isLit && isInView(lantern.px, lantern.py, 0, 0, 80)) put(poolGlows[shown++], lantern.px, lantern.py, 80);
    }
    for (n in shown...GLOWS) poolGlows[n].visible = false;
  }

  function put(thing:flash.display.DisplayObject, wx:Float, wy:Float, margin:Float):Void {
    thing.visible = isInView(wx, wy, 0, 0, margin);
    thing.x = sx(wx);
    thing.y = sy(wy);
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

  /** Houses and trees lean away from the middle of the picture, so that they seem to rise. */
  function paintHouses(town:Town):Void {
    var g = houses.graphics;
    var w = lights.graphics;
    g.clear();
    w.clear();
    var near:Array<House> = [];
    for (plot in town.plots) if (isInView(plot.x, plot.y, plot.w, plot.h, 70)) {
      for (house in plot.houses) if (isInView(house.x, house.y, house.w, house.h, 40)) near.push(house);
    }
    near.sort(function(a, b) return reach(a) > reach(b) ? -1 : 1);
    g.beginFill(0x0a0618, 0.28);
    for (house in near) {
      var shade = house.rise * 150;
      g.drawRect(sx(house.x) + shade * 0.4, sy(house.y) + shade * 0.5, house.w + shade * 0.5, house.h + shade * 0.4);
    }
    g.endFill();
    trees(town);
    w.beginFill(0xffd27a, 0.92);
    for (house in near) raise(g, w, house);
    w.endFill();
  }

  inline function reach(house:House):Float {
    var dx = house.x + house.w / 2 - eyeX;
    var dy = house.y + house.h / 2 - eyeY;
    return dx * dx + dy * dy;
  }

  function raise(g:Graphics, w:Graphics, house:House):Void {
    var tone = Paint.TONES[house.tone];
    var x0 = sx(house.x);
    var y0 = sy(house.y);
    var x1 = x0 + house.w;
    var y1 = y0 + house.h;
    var k = 1 + house.rise;
    var u0 = HALF_W + (x0 - HALF_W) * k;
    var v0 = HALF_H + (y0 - HALF_H) * k;
    var u1 = HALF_W + (x1 - HALF_W) * k;
    var v1 = HALF_H + (y1 - HALF_H) * k;
    if (u0 > x0) wall(g, w, tone[0], x0, y0, x0, y1, u0, v1, u0, v0, house.windows);
    if (u1 < x1) wall(g, w, tone[0], x1, y0, x1, y1, u1, v1, u1, v0, house.windows >> 1);
    if (v0 > y0) wall(g, w, tone[1], x0, y0, x1, y0, u1, v0, u0, v0, house.windows >> 2);
    if (v1 < y1) wall(g, w, tone[1], x0, y1, x1, y1, u1, v1, u0, v1, house.windows >> 3);
    if (house.isFlat) flatRoof(g, tone, u0, v0, u1, v1) else hipRoof(g, tone, u0, v0, u1, v1, house.rise);
  }

  /** A wall from its foot (a, b) to its eaves (d, c), with a few lit windows. */
  function wall(g:Graphics, w:Graphics, color:Int, ax:Float, ay:Float, bx:Float, by:Float, cx:Float, cy:Float, dx:Float, dy:Float, windows:Int):Void {
    g.beginFill(color);
    quad(g, ax, ay, bx, by, cx, cy, dx, dy);
    g.endFill();
    if (Math.abs(dx - ax) + Math.abs(dy - ay) < 5) return;
    for (n in 0...3) if ((windows >> n) & 1 == 1) {
      var from = 0.18 + n * 0.26;
      var to = from + 0.14;
      quad(w,
        ax + (bx - ax) * from + (dx - ax) * 0.3, ay + (by - ay) * from + (dy - ay) * 0.3,
        ax + (bx - ax) * to + (dx - ax) * 0.3, ay + (by - ay) * to + (dy - ay) * 0.3,
        ax + (bx - ax) * to + (dx - ax) * 0.75, ay + (by - ay) * to + (dy - ay) * 0.75,
        ax + (bx - ax) * from + (dx - ax) * 0.75, ay + (by - ay) * from + (dy - ay) * 0.75);
    }
  }

  static inline function quad(g:Graphics, ax:Float, ay:Float, bx:Float, by:Float, cx:Float, cy:Float, dx:Float, dy:Float):Void {
    g.moveTo(ax, ay);
    g.lineTo(bx, by);
    g.lineTo(cx, cy);
    g.lineTo(dx, dy);
    g.lineTo(ax, ay);
  }

  function flatRoof(g:Graphics, tone:Array<Int>, u0:Float, v0:Float, u1:Float, v1:Float):Void {
    g.beginFill(tone[1]);
    g.drawRect(u0, v0, u1 - u0, v1 - v0);
    g.endFill();
    g.beginFill(0x6d6474);
    g.drawRect(u0 + 5, v0 + 5, u1 - u0 - 10, v1 - v0 - 10);
    g.endFill();
    g.beginFill(0x938a92);
    g.drawRect(u0 + 12, v0 + 12, 15, 11);
    g.drawRect(u1 - 30, v1 - 26, 17, 13);
    g.endFill();
  }

  function hipRoof(g:Graphics, tone:Array<Int>, u0:Float, v0:Float, u1:Float, v1:Float, rise:Float):Void {
    var w = u1 - u0;
    var h = v1 - v0;
    var inset = Math.min(w, h) * 0.5;
    var lift = 1 + rise * 0.45;
    var isWide = w > h;
    var ax = HALF_W + ((isWide ? u0 + inset : u0 + w / 2) - HALF_W) * lift;
    var ay = HALF_H + ((isWide ? v0 + h / 2 : v0 + inset) - HALF_H) * lift;
    var bx = HALF_W + ((isWide ? u1 - inset : u0 + w / 2) - HALF_W) * lift;
    var by = HALF_H + ((isWide ? v0 + h / 2 : v1 - inset) - HALF_H) * lift;
    var light = tone[2];
    var shade = tone[3];
    g.beginFill(Draw.blend(light, shade, 0.5));
    g.drawRect(u0, v0, w, h);
    g.endFill();
    // The sun stands low in the west.
    g.beginFill(Draw.blend(light, 0xffe0a0, 0.25));
    if (isWide) quad(g, u0, v0, ax, ay, ax, ay, u0, v1) else quad(g, u0, v0, ax, ay, bx, by, u0, v1);
    g.endFill();
    g.beginFill(shade);
    if (isWide) quad(g, u1, v0, bx, by, bx, by, u1, v1) else quad(g, u1, v0, ax, ay, bx, by, u1, v1);
    g.endFill();
    g.beginFill(light);
    if (isWide) quad(g, u0, v0, ax, ay, bx, by, u1, v0) else quad(g, u0, v0, ax, ay, ax, ay, u1, v0);
    g.endFill();
  }

  function trees(town:Town):Void {
    var g = houses.graphics;
    for (pass in 0...3) {
      g.beginFill([0x0a0618, 0x35583f, 0x6f9450][pass], pass == 0 ? 0.28 : 1);
      for (plot in town.plots) if (plot.trees.length > 0 && isInView(plot.x, plot.y, plot.w, plot.h, 30)) {
        var n = 0;
        while (n < plot.trees.length) {
          var r = plot.trees[n + 2];
          var tx = sx(plot.trees[n]);
          var ty = sy(plot.trees[n + 1]);
          n += 3;
          if (tx < -40 || tx > 680 || ty < -40 || ty > 520) continue;
          var k = pass == 0 ? 1.0 : 1.05 + 0.03 * pass;
          tx = HALF_W + (tx - HALF_W) * k + (pass == 0 ? r * 0.45 : -pass * 1.5);
          ty = HALF_H + (ty - HALF_H) * k + (pass == 0 ? r * 0.5 : -pass * 1.5);
          g.drawCircle(tx, ty, pass == 2 ? r * 0.62 : r);
        }
      }
      g.endFill();
    }
  }

  /** Evening: the less daylight is left, the darker, and the more the lamps matter. */
  function fall(errand:Errand):Void {
    var dusk = Math.min(1, 0.75 * errand.frame / Errand.FRAMES + 0.5 * (1 - Math.max(0, errand.daylight / Errand.DAYLIGHT)));
    var g = night.graphics;
    g.clear();
    g.beginFill(Draw.blend(0xe8803c, 0x120a3e, Math.min(1, dusk * 1.5)), 0.13 + 0.47 * dusk);
    g.drawRect(0, 0, 640, 480);
    g.endFill();
    lights.alpha = 0.35 + 0.65 * dusk;
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
      g.drawCircle(sx(flash.x), sy(flash.y), 14 + 46 * t);
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
