import flash.display.Graphics;
import flash.display.Shape;
import Town.House;

/** Houses and trees. They lean away from the middle of the picture, so that they seem to rise. */
class Roofs extends Shape {
  /** Their lit windows, to be shown above the dark of the night. */
  public var lights(default, null) = new Shape();

  var eye:Eye;

  public function new(eye:Eye) {
    super();
    this.eye = eye;
  }

  public function draw(town:Town):Void {
    var g = graphics;
    var w = lights.graphics;
    g.clear();
    w.clear();
    var near:Array<House> = [];
    for (plot in town.plots) if (eye.sees(plot.x, plot.y, plot.w, plot.h, 70)) {
      for (house in plot.houses) if (eye.sees(house.x, house.y, house.w, house.h, 40)) near.push(house);
    }
    near.sort(function(a, b) return reach(a) > reach(b) ? -1 : 1);
    g.beginFill(0x0a0618, 0.28);
    for (house in near) {
      var shade = house.rise * 150;
      g.drawRect(eye.sx(house.x) + shade * 0.4, eye.sy(house.y) + shade * 0.5, house.w + shade * 0.5, house.h + shade * 0.4);
    }
    g.endFill();
    trees(town);
    w.beginFill(0xffd27a, 0.92);
    for (house in near) raise(g, w, house);
    w.endFill();
  }

  inline function reach(house:House):Float {
    var dx = house.x + house.w / 2 - eye.x;
    var dy = house.y + house.h / 2 - eye.y;
    return dx * dx + dy * dy;
  }

  function raise(g:Graphics, w:Graphics, house:House):Void {
    var tone = Paint.TONES[house.tone];
    var x0 = eye.sx(house.x);
    var y0 = eye.sy(house.y);
    var x1 = x0 + house.w;
    var y1 = y0 + house.h;
    var k = 1 + house.rise;
    var u0 = Eye.HALF_W + (x0 - Eye.HALF_W) * k;
    var v0 = Eye.HALF_H + (y0 - Eye.HALF_H) * k;
    var u1 = Eye.HALF_W + (x1 - Eye.HALF_W) * k;
    var v1 = Eye.HALF_H + (y1 - Eye.HALF_H) * k;
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
    var ax = Eye.HALF_W + ((isWide ? u0 + inset : u0 + w / 2) - Eye.HALF_W) * lift;
    var ay = Eye.HALF_H + ((isWide ? v0 + h / 2 : v0 + inset) - Eye.HALF_H) * lift;
    var bx = Eye.HALF_W + ((isWide ? u1 - inset : u0 + w / 2) - Eye.HALF_W) * lift;
    var by = Eye.HALF_H + ((isWide ? v0 + h / 2 : v1 - inset) - Eye.HALF_H) * lift;
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
    var g = graphics;
    for (pass in 0...3) {
      g.beginFill([0x0a0618, 0x35583f, 0x6f9450][pass], pass == 0 ? 0.28 : 1);
      for (plot in town.plots) if (plot.trees.length > 0 && eye.sees(plot.x, plot.y, plot.w, plot.h, 30)) {
        var n = 0;
        while (n < plot.trees.length) {
          var r = plot.trees[n + 2];
          var tx = eye.sx(plot.trees[n]);
          var ty = eye.sy(plot.trees[n + 1]);
          n += 3;
          if (tx < -40 || tx > 680 || ty < -40 || ty > 520) continue;
          var k = pass == 0 ? 1.0 : 1.05 + 0.03 * pass;
          tx = Eye.HALF_W + (tx - Eye.HALF_W) * k + (pass == 0 ? r * 0.45 : -pass * 1.5);
          ty = Eye.HALF_H + (ty - Eye.HALF_H) * k + (pass == 0 ? r * 0.5 : -pass * 1.5);
          g.drawCircle(tx, ty, pass == 2 ? r * 0.62 : r);
        }
      }
      g.endFill();
    }
  }
}
