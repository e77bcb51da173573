import flash.display.Graphics;
import flash.display.Shape;
import Town.Plot;

/** All that is flat: streets and their marks, pavements, lawns, water, the woods around. */
class Ground extends Shape {
  var eye:Eye;

  public function new(eye:Eye) {
    super();
    this.eye = eye;
  }

  public function draw(town:Town, frame:Int):Void {
    var g = graphics;
    g.clear();
    g.beginFill(0x4d4660);
    g.drawRect(0, 0, 640, 480);
    g.endFill();
    outskirts(town, frame);
    // Overlapping shapes within one fill would cut each other out.
    for (pass in 0...4) {
      g.beginFill(pass % 2 == 0 ? 0x8a7b88 : 0x5c7a52);
      for (plot in town.plots) if ((plot.kind == Plot.HEDGE) == (pass < 2) && eye.sees(plot.x, plot.y, plot.w, plot.h, 20)) {
        if (pass % 2 == 0) pavement(g, plot) else lawn(g, plot);
      }
      g.endFill();
    }
    ponds(town, frame);
    roadPaint(town);
  }

  inline function pavement(g:Graphics, plot:Plot):Void {
    var rim = Town.HALF - Town.KERB;
    if (plot.kind == Plot.HEDGE) {
      var isEast = plot.h == 2 * Town.HALF;
      g.drawRect(eye.sx(plot.x) - (isEast ? rim : 0), eye.sy(plot.y) - (isEast ? 0 : rim), plot.w + (isEast ? 2 * rim : 0), plot.h + (isEast ? 0 : 2 * rim));
    } else g.drawRoundRect(eye.sx(plot.x) - rim, eye.sy(plot.y) - rim, plot.w + 2 * rim, plot.h + 2 * rim, 26);
  }

  inline function lawn(g:Graphics, plot:Plot):Void {
    var inset = plot.kind >= Plot.PARK && plot.kind != Plot.HEDGE ? 3.0 : 0.0;
    g.drawRect(eye.sx(plot.x) + inset, eye.sy(plot.y) + inset, plot.w - 2 * inset, plot.h - 2 * inset);
  }

  function outskirts(town:Town, frame:Int):Void {
    var g = graphics;
    var left = eye.sx(town.xs[0] - Town.HALF);
    var right = eye.sx(town.xs[Town.COLUMNS - 1] + Town.HALF);
    var top = eye.sy(town.ys[0] - Town.HALF);
    var bottom = eye.sy(town.ys[Town.ROWS - 1] + Town.HALF);
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
    var firstColumn = Math.floor((eye.x - Eye.HALF_W) / cell) - 1;
    var firstRow = Math.floor((eye.y - Eye.HALF_H) / cell) - 1;
    for (pass in 0...2) {
      g.beginFill(pass == 0 ? 0x2a4638 : 0x4f7a4e);
      for (row in firstRow...firstRow + 14) for (column in firstColumn...firstColumn + 17) {
        var chance = ((column * 73856093) ^ (row * 19349663)) & 255;
        var tx = eye.sx(column * cell) + (chance & 15);
        var ty = eye.sy(row * cell) + (chance >> 4);
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
      var x = -(((eye.x % 80) + 80) % 80) - 80;
      g.moveTo(x, y + 5 * Math.sin(phase));
      while (x < 660) {
        g.curveTo(x + 20, y - 5 + 5 * Math.sin(phase), x + 40, y + 5 * Math.sin(phase));
        g.curveTo(x + 60, y + 5 + 5 * Math.sin(phase), x + 80, y + 5 * Math.sin(phase));
        x += 80;
      }
    }
    g.lineStyle();
    var first = Math.floor((eye.x - Eye.HALF_W) / 210) - 1;
    for (n in first...first + 6) {
      var bx = eye.sx(n * 210 + 40 * Math.sin(n * 2.1));
      var by = top + 130 + 46 * Math.sin(n * 1.3) + 2 * Math.sin(frame * 0.06 + n);
      Draw.fill(g, 0xf4e2cc, 1, [bx - 3, by - 2, bx - 3, by - 30, bx - 22, by - 2]);
      Draw.fill(g, 0xff9a6a, 1, [bx, by - 2, bx, by - 34, bx + 17, by - 2]);
      Draw.fill(g, 0x5a2f3c, 1, [bx - 24, by, bx + 20, by, bx + 13, by + 8, bx - 17, by + 8]);
    }
  }

  function ponds(town:Town, frame:Int):Void {
    var g = graphics;
    for (plot in town.plots) if ((plot.kind == Plot.PARK || plot.kind == Plot.POND) && eye.sees(plot.x, plot.y, plot.w, plot.h, 0)) {
      var cx = eye.sx(plot.x + plot.w / 2);
      var cy = eye.sy(plot.y + plot.h / 2);
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
        g.moveTo(eye.sx(plot.x), eye.sy(plot.y));
        g.curveTo(cx + 30, cy - 10, eye.sx(plot.x + plot.w), eye.sy(plot.y + plot.h));
        g.moveTo(eye.sx(plot.x + plot.w), eye.sy(plot.y));
        g.curveTo(cx - 10, cy + 30, eye.sx(plot.x), eye.sy(plot.y + plot.h));
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
    var g = graphics;
    g.beginFill(0xe8dcc0, 0.7);
    for (j in 0...Town.ROWS) for (i in 0...Town.COLUMNS) {
      if (town.leads(i, j, 0)) lane(g, town.xs[i], town.xs[i + 1], town.ys[j], true);
      if (town.leads(i, j, 1)) lane(g, town.ys[j], town.ys[j + 1], town.xs[i], false);
    }
    g.endFill();
    g.beginFill(0xd8cdbb, 0.4);
    for (j in 0...Town.ROWS) for (i in 0...Town.COLUMNS) if (eye.sees(town.xs[i], town.ys[j], 0, 0, 90)) {
      for (direction in 0...4) if (town.leads(i, j, direction)) zebra(g, town.xs[i], town.ys[j], direction);
    }
    g.endFill();
  }

  /** The dashes between the two directions of a street. */
  function lane(g:Graphics, from:Float, to:Float, across:Float, isEast:Bool):Void {
    var middle = isEast ? eye.x : eye.y;
    var half = isEast ? Eye.HALF_W : Eye.HALF_H;
    if (Math.abs(across - (isEast ? eye.y : eye.x)) > (isEast ? Eye.HALF_H : Eye.HALF_W) + 4) return;
    var at = from + 88;
    while (at < to - 96) {
      if (at > middle - half - 20 && at < middle + half) {
        if (isEast) g.drawRect(eye.sx(at), eye.sy(across) - 1.5, 17, 3) else g.drawRect(eye.sx(across) - 1.5, eye.sy(at), 3, 17);
      }
      at += 36;
    }
  }

  function zebra(g:Graphics, cx:Float, cy:Float, direction:Int):Void {
    var dx = Town.stepX(direction);
    var dy = Town.stepY(direction);
    for (k in 0...7) {
      var side = -48 + k * 14.5;
      if (dx != 0) g.drawRect(eye.sx(cx + dx * 70) - 7, eye.sy(cy) + side, 14, 8) else g.drawRect(eye.sx(cx) + side, eye.sy(cy + dy * 70) - 7, 8, 14);
    }
  }
}
