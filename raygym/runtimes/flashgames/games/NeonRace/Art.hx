import flash.display.GradientType;
import flash.display.Graphics;
import flash.display.Shape;
import flash.geom.Matrix;

/** Everything that is drawn once and then only moved, scaled or hidden. */
class Art {
  /** Sky from top to horizon, glow on the horizon, edge of the road, grid; one row a sector. */
  public static var SECTORS = [
    {top: 0x120a36, middle: 0x5a1a78, low: 0xff5f7e, glow: 0xff9a5a, edge: 0xff2fa0, grid: 0xb028d8, ground: 0x140a2c, band: 0x1d0f3c},
    {top: 0x040a28, middle: 0x10357e, low: 0x2fd0d8, glow: 0x62ffe0, edge: 0x22e6ff, grid: 0x1478c8, ground: 0x06122c, band: 0x0a1c3e},
    {top: 0x1c0424, middle: 0x7a1038, low: 0xffa02e, glow: 0xffe060, edge: 0xffc22e, grid: 0xc83a28, ground: 0x200a1a, band: 0x301024},
    {top: 0x04140f, middle: 0x0c4a48, low: 0x8cf06a, glow: 0xd6ff7a, edge: 0x7dff5a, grid: 0x1c9a5c, ground: 0x071a18, band: 0x0c2824}
  ];
  public static var LIVERIES = [
    {body: 0xff7a1a, dark: 0x7a2c08, trim: 0xffd24a}, {body: 0xd8264e, dark: 0x5c0c26, trim: 0xff8aa8},
    {body: 0x8a4dff, dark: 0x341470, trim: 0xd0b0ff}, {body: 0x2fc46a, dark: 0x0c4a2a, trim: 0xb6ffcc}
  ];

  /** Sky, stars and a striped sun above `horizon`. */
  public static function sky(sector:Int, horizon:Float):Shape {
    var s = SECTORS[sector];
    var shape = new Shape();
    var g = shape.graphics;
    Draw.verticalGradient(g, [s.top, s.middle, s.low], [1, 1, 1], [0, 150, 255], 0, 0, 640, horizon + 2);
    var prng = new Prng(77 + sector);
    g.beginFill(0xffffff, 0.75);
    for (i in 0...46) {
      var r = prng.range(0.6, 1.5);
      g.drawRect(prng.range(0, 640), prng.range(0, horizon * 0.55), r, r);
    }
    g.endFill();
    return shape;
  }

  public static function sun(sector:Int):Shape {
    var s = SECTORS[sector];
    var shape = new Shape();
    var g = shape.graphics;
    for (ring in 0...3) {
      g.beginFill(s.glow, 0.07);
      g.drawCircle(0, 0, 96 + ring * 16);
      g.endFill();
    }
    var light = sector == 1 ? 0xf4ffff : 0xfff3b0;
    var y = -84.0;
    var gap = 0.0;
    while (y < 84) {
      var bottom = Math.min(84, y + (y < -40 ? 24 : 13 - gap * 1.0));
      var matrix = new Matrix();
      matrix.createGradientBox(168, 168, Math.PI / 2, -84, -84);
      g.beginGradientFill(GradientType.LINEAR, [light, s.glow, s.edge], [1, 1, 1], [0, 110, 255], matrix);
      band(g, 84, y, bottom);
      g.endFill();
      if (bottom > -44) gap += 0.9;
      y = bottom + (bottom > -44 ? 1 + gap : 0);
    }
    return shape;
  }

  /** The part of a circle of that radius between two heights. */
  static function band(g:Graphics, radius:Float, top:Float, bottom:Float):Void {
    var steps = 10;
    for (side in 0...2) for (i in 0...steps + 1) {
      var part = side == 0 ? i / steps : 1 - i / steps;
      var y = top + (bottom - top) * part;
      var x = Math.sqrt(Math.max(0, radius * radius - y * y)) * (side == 0 ? 1 : -1);
      if (side == 0 && i == 0) g.moveTo(x, y) else g.lineTo(x, y);
    }
  }

  /** Far hills as a lit ridge, 1280 wide, standing on y = 0; repeats without a seam. */
  public static function hills(color:Int, line:Int):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    var heights = [for (i in 0...33) 14 + 16 * Math.sin(i * Math.PI / 4) + 11 * Math.sin(i * Math.PI * 7 / 16 + 1)];
    heights[32] = heights[0];
    var points = [0.0, 2.0];
    for (i in 0...33) {
      points.push(i * 40);
      points.push(-Math.max(4, heights[i]));
    }
    points.push(1280);
    points.push(2);
    Draw.fill(g, color, 1, points);
    g.lineStyle(1.5, line, 0.8);
    for (i in 0...33) {
      var y = -Math.max(4, heights[i]);
      if (i == 0) g.moveTo(0, y) else g.lineTo(i * 40, y);
    }
    return shape;
  }

  /** A skyline with lit windows, 1280 wide, standing on y = 0. */
  public static function city(color:Int, window:Int, seed:Int):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    var prng = new Prng(seed);
    var towers:Array<{x:Float, w:Float, h:Float}> = [];
    var x = 0.0;
    while (x < 1230) {
      var w = prng.range(18, 46);
      var centre = Math.abs(x % 640 - 320) / 320;
      towers.push({x: x, w: w, h: prng.range(16, 44) + 52 * centre * centre});
      x += w + prng.range(-4, 16);
    }
    g.beginFill(color);
    for (t in towers) {
      g.drawRect(t.x, -t.h, t.w, t.h + 2);
      if (t.h > 58) g.drawRect(t.x + t.w / 2 - 1, -t.h - 14, 2, 14);
    }
    g.endFill();
    g.beginFill(window, 0.75);
    for (t in towers) {
      var row = -t.h + 5;
      while (row < -6) {
        for (column in 0...Std.int((t.w - 6) / 6)) if (prng.unit() < 0.36) g.drawRect(t.x + 4 + column * 6, row, 2.4, 2.8);
        row += 7;
      }
    }
    g.endFill();
    return shape;
  }

  /** A car from behind, 120 wide, its wheels on y = 0. `yaw` -2..2 turns it. */
  public static function car(body:Int, dark:Int, trim:Int, lamp:Int, yaw:Float):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    g.beginFill(0x000000, 0.5);
    g.drawEllipse(-70, -11, 140, 18);
    g.endFill();
    g.beginFill(trim, 0.22);
    g.drawEllipse(-64, -9, 128, 13);
    g.endFill();
    g.beginFill(0x08060f);
    g.drawRoundRect(-57, -22, 23, 23, 6);
    g.drawRoundRect(34, -22, 23, 23, 6);
    g.endFill();
    var c = yaw * 5;
    Draw.fill(g, dark, 1, [-60, -10, -62, -26, -54 + c / 2, -38, 54 + c / 2, -38, 62, -26, 60, -10]);
    Draw.fill(g, body, 1, [-60, -22, -62, -28, -54 + c / 2, -40, 54 + c / 2, -40, 62, -28, 60, -22]);
    Draw.fill(g, body, 1, [-45 + c / 2, -39, -31 + c * 1.5, -61, 31 + c * 1.5, -61, 45 + c / 2, -39]);
    Draw.fill(g, 0x0c1028, 1, [-37 + c / 2, -42, -27 + c * 1.4, -57, 27 + c * 1.4, -57, 37 + c / 2, -42]);
    Draw.fill(g, trim, 0.35, [-37 + c / 2, -42, -27 + c * 1.4, -57, -6 + c * 1.4, -57, -18 + c / 2, -42]);
    Draw.fill(g, dark, 1, [-40 + c, -50, -36 + c, -50, -40 + c / 2, -38, -46 + c / 2, -38]);
    Draw.fill(g, dark, 1, [40 + c, -50, 36 + c, -50, 40 + c / 2, -38, 46 + c / 2, -38]);
    Draw.fill(g, body, 1, [-58 + c, -54, 58 + c, -54, 60 + c, -48, -60 + c, -48]);
    Draw.fill(g, trim, 1, [-58 + c, -54, 58 + c, -54, 58 + c, -52, -58 + c, -52]);
    g.beginFill(lamp, 0.3);
    g.drawRoundRect(-60, -35, 120, 17, 10);
    g.endFill();
    g.beginFill(lamp);
    g.drawRect(-55, -31, 44, 7);
    g.drawRect(11, -31, 44, 7);
    g.endFill();
    g.beginFill(0xffffff, 0.85);
    g.drawRect(-52, -29, 34, 2.4);
    g.drawRect(18, -29, 34, 2.4);
    g.endFill();
    g.beginFill(0xdfe6ff, 0.9);
    g.drawRect(-8, -21, 16, 6);
    g.endFill();
    g.beginFill(0x05040a);
    g.drawRect(-48, -15, 96, 5);
    g.endFill();
    g.beginFill(0x9aa0b8);
    g.drawCircle(-26, -12, 3.2);
    g.drawCircle(26, -12, 3.2);
    g.endFill();
    return shape;
  }

  /** Two exhaust flames of the player's car. */
  public static function flames():Shape {
    var shape = new Shape();
    var g = shape.graphics;
    for (x in [-26.0, 26.0]) {
      Draw.fill(g, 0x2aa8ff, 0.45, [x - 10, -12, x + 10, -12, x, 30]);
      Draw.fill(g, 0x9df0ff, 0.9, [x - 6, -12, x + 6, -12, x, 18]);
      Draw.fill(g, 0xffffff, 1, [x - 3, -12, x + 3, -12, x, 7]);
    }
    return shape;
  }

  /** A light mast on the left verge, 100 high; mirrored for the right one. */
  public static function mast(color:Int):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    g.beginFill(0x241a44);
    g.drawRect(-3, -100, 6, 100);
    g.drawRect(-3, -100, 44, 4);
    g.endFill();
    g.beginFill(color, 0.28);
    g.drawRoundRect(14, -104, 34, 15, 10);
    g.drawRect(-6, -96, 12, 84);
    g.endFill();
    g.beginFill(color);
    g.drawRect(18, -98, 25, 4);
    g.drawRect(-1.5, -92, 3, 78);
    g.endFill();
    return shape;
  }

  public static function palm(tint:Int):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    Draw.fill(g, 0x1b1030, 1, [-4, 0, 1, -46, 8, -84, 12, -84, 7, -46, 5, 0]);
    for (parity in 0...2) {
      g.beginFill(parity == 0 ? 0x143046 : 0x0e2236);
      for (i in 0...7) if (i % 2 == parity) {
        var a = -0.35 - i * 0.41;
        g.moveTo(10, -86);
        leaf(g, a);
        g.curveTo(10 + Math.cos(a) * 20, -78 + Math.sin(a) * 20, 10, -82);
        g.lineTo(10, -86);
      }
      g.endFill();
    }
    // One line style for all: each costs the player a change of its canvas.
    g.lineStyle(1.4, tint, 0.75);
    g.moveTo(5, 0);
    g.curveTo(4, -50, 12, -84);
    for (i in 0...7) {
      g.moveTo(10, -86);
      leaf(g, -0.35 - i * 0.41);
    }
    return shape;
  }

  static inline function leaf(g:Graphics, a:Float):Void
    g.curveTo(10 + Math.cos(a) * 30, -92 + Math.sin(a) * 34, 10 + Math.cos(a) * 42, -70 + Math.sin(a) * 30);

  /** A board of arrows on the outside of a bend; it points right. */
  public static function chevron(color:Int):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    g.beginFill(0x241a44);
    g.drawRect(-36, -36, 4, 36);
    g.drawRect(32, -36, 4, 36);
    g.endFill();
    g.beginFill(color);
    g.drawRect(-51, -67, 102, 38);
    g.endFill();
    g.beginFill(0x0b0618);
    g.drawRect(-49, -65, 98, 34);
    g.endFill();
    for (i in 0...3) {
      var x = -38.0 + i * 28;
      Draw.fill(g, color, 1, [x, -62, x + 10, -62, x + 22, -48, x + 10, -34, x, -34, x + 12, -48]);
    }
    return shape;
  }

  /** A frame over the whole road, 200 wide (the road's width), with a coloured beam. */
  public static function gate(color:Int):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    g.beginFill(0x1a1238);
    g.drawRect(-118, -86, 10, 86);
    g.drawRect(108, -86, 10, 86);
    g.drawRect(-118, -86, 236, 18);
    g.endFill();
    g.beginFill(color, 0.25);
    g.drawRect(-122, -90, 244, 26);
    g.endFill();
    g.beginFill(color);
    g.drawRect(-118, -68, 236, 2);
    g.drawRect(-118, -87, 236, 2);
    g.drawRect(-109, -68, 2, 68);
    g.drawRect(107, -68, 2, 68);
    for (i in 0...11) Draw.fill(g, color, 1, [-102.0 + i * 19, -81, -94.0 + i * 19, -81, -99.0 + i * 19, -73, -107.0 + i * 19, -73]);
    g.endFill();
    return shape;
  }

  public static function orb():Shape {
    var shape = new Shape();
    var g = shape.graphics;
    g.beginFill(0x000000, 0.35);
    g.drawEllipse(-26, -5, 52, 10);
    g.endFill();
    for (ring in 0...3) {
      g.beginFill(0x49ffd0, 0.16);
      g.drawCircle(0, -42, 38 - ring * 7);
      g.endFill();
    }
    Draw.fill(g, 0x20c89a, 1, [0, -68, 19, -42, 0, -16, -19, -42]);
    Draw.fill(g, 0xb8fff0, 1, [0, -68, 19, -42, 0, -42]);
    Draw.fill(g, 0x6bffdc, 1, [0, -68, -19, -42, 0, -42]);
    return shape;
  }
}
