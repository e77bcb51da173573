import flash.display.Shape;

/** Everything that is drawn once and then only moved, turned or hidden. */
class Paint {
  public static var CARS = [0x5f8fb8, 0xb8b4a2, 0x7d5a8c, 0x4f8a74, 0xa8664a];
  /** Per tone: walls to the east and west, walls to the north and south, roof in light, roof in shade. */
  public static var TONES = [
    [0xb98f74, 0xd6ad88, 0xd9784e, 0xa8523c], [0xa99a8c, 0xcdbb9f, 0xc96a4a, 0x94463a],
    [0x9c8496, 0xc2a4a6, 0x8d6a86, 0x664c6c], [0xb0a184, 0xdcc79a, 0xe08c56, 0xb06040],
    [0x8b93a0, 0xb4b6b4, 0x5d7890, 0x455a74], [0xb58a7c, 0xdba690, 0xb85a4c, 0x873f3e]
  ];

  /** A car from above, nose to the right, 44 long. */
  public static function car(body:Int, roof:Int, isPlayer:Bool):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    g.beginFill(0x0a0618, 0.35);
    g.drawRoundRect(-21, -8, 46, 24, 10);
    g.endFill();
    g.beginFill(0x1a1420);
    for (x in [-16.0, 9.0]) for (y in [-13.0, 9.0]) g.drawRect(x, y, 9, 4);
    g.endFill();
    g.beginFill(body);
    g.drawRoundRect(-22, -11, 44, 22, 9);
    g.endFill();
    g.beginFill(Draw.blend(body, 0xffffff, 0.35));
    g.drawRoundRect(-20, -10, 40, 6, 5);
    g.endFill();
    g.beginFill(0x1c2436);
    g.drawRoundRect(-14, -9, 25, 18, 6);
    g.endFill();
    g.beginFill(roof);
    g.drawRoundRect(-10, -8.5, 15, 17, 5);
    g.endFill();
    if (isPlayer) {
      g.lineStyle(1.2, 0x6a3a1c);
      for (x in [-7.0, -2.5, 2.0]) {
        g.moveTo(x, -8);
        g.lineTo(x, 8);
      }
      g.lineStyle();
    }
    g.beginFill(0xfff2c0);
    g.drawRect(19, -9, 3, 5);
    g.drawRect(19, 4, 3, 5);
    g.endFill();
    g.beginFill(0xff3a3a);
    g.drawRect(-22, -9, 2.5, 5);
    g.drawRect(-22, 4, 2.5, 5);
    g.endFill();
    return shape;
  }

  /** The light of two headlamps, from the nose of a car on. */
  public static function beam(length:Float, opacity:Float):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    for (step in 0...3) {
      var reach = length * (1 - step * 0.25);
      Draw.fill(g, 0xfff0b8, opacity, [20, -9, 20 + reach, -reach * 0.3, 24 + reach * 1.06, 0, 20 + reach, reach * 0.3, 20, 9]);
    }
    return shape;
  }

  public static function brakes():Shape {
    var shape = new Shape();
    for (y in [-6.5, 6.5]) {
      shape.graphics.beginFill(0xff4030, 0.5);
      shape.graphics.drawCircle(-23, y, 7);
      shape.graphics.endFill();
    }
    return shape;
  }

  /** A paper lantern that is not lit yet. */
  public static function lantern(core:Int, rim:Int):Shape {
    var shape = new Shape();
    var g = shape.graphics;
    g.beginFill(0x0a0618, 0.35);
    g.drawEllipse(-9, 5, 22, 12);
    g.endFill();
    g.beginFill(rim);
    g.drawCircle(0, 0, 11);
    g.endFill();
    g.beginFill(core);
    g.drawCircle(0, 0, 8.5);
    g.endFill();
    g.lineStyle(1.3, rim, 0.9);
    g.moveTo(-8, 0);
    g.lineTo(8, 0);
    g.moveTo(0, -8);
    g.lineTo(0, 8);
    g.drawCircle(0, 0, 4);
    return shape;
  }

  public static function halo(color:Int, opacity:Float, radius:Float):Shape {
    var shape = new Shape();
    Draw.glow(shape.graphics, color, opacity, radius);
    return shape;
  }

  /** The arrow beside the car that shows the way; it points right. */
  public static function pointer():Shape {
    var shape = new Shape();
    Draw.fill(shape.graphics, 0x2a1030, 0.7, [38, -15, 68, 0, 38, 15, 46, 0]);
    Draw.fill(shape.graphics, 0xfff0a0, 1, [41, -11, 63, 0, 41, 11, 48, 0]);
    return shape;
  }
}
