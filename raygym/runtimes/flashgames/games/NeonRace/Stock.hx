import flash.display.Shape;
import flash.display.Sprite;

/** Lends ready-drawn things to one frame, stacked in the order in which they are asked for. */
class Stock {
  var layer:Sprite;
  var kinds:Array<Array<Shape>> = [];
  var used:Array<Int> = [];

  public function new(layer:Sprite) {
    this.layer = layer;
    var sectors = Art.SECTORS;
    for (s in sectors) kinds.push([for (i in 0...20) Art.mast(s.edge)]);
    for (s in sectors) kinds.push([for (i in 0...1) Art.gate(s.edge)]);
    for (l in Art.LIVERIES) kinds.push([for (i in 0...Race.RIVALS) Art.car(l.body, l.dark, l.trim, 0xff3030, 0)]);
    kinds.push([for (i in 0...16) Art.palm(0xff5fc0)]);
    kinds.push([for (i in 0...14) Art.chevron(0xffd23a)]);
    kinds.push([for (i in 0...24) Art.orb()]);
    for (kind in kinds) used.push(0);
  }

  public function begin():Void {
    while (layer.numChildren > 0) layer.removeChildAt(0);
    for (i in 0...used.length) used[i] = 0;
  }

  public function end():Void {
    var i = layer.numChildren - 1;
    while (i >= 0) {
      if (!layer.getChildAt(i).visible) layer.removeChildAt(i);
      i--;
    }
  }

  public function mast(sector:Int):Shape return take(sector);

  public function gate(sector:Int):Shape return take(4 + sector);

  public function rival(livery:Int):Shape return take(8 + livery);

  public function palm():Shape return take(12);

  public function chevron():Shape return take(13);

  public function orb():Shape return take(14);

  /** The next unused thing of a kind, or null if all are out. */
  function take(kind:Int):Shape {
    var shapes = kinds[kind];
    if (used[kind] == shapes.length) return null;
    var thing = shapes[used[kind]++];
    thing.visible = true;
    layer.addChild(thing);
    return thing;
  }
}
