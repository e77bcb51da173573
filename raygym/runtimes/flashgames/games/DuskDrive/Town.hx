import flash.Vector;

/** A house, as a box with a roof. */
class House {
  public var x:Float;
  public var y:Float;
  public var w:Float;
  public var h:Float;
  /** How far its eaves rise toward the eye: 0.1 is a tenth of the way. */
  public var rise:Float;
  public var tone:Int;
  public var isFlat:Bool;
  public var windows:Int;

  public function new(x:Float, y:Float, w:Float, h:Float, rise:Float, tone:Int, isFlat:Bool, windows:Int) {
    this.x = x;
    this.y = y;
    this.w = w;
    this.h = h;
    this.rise = rise;
    this.tone = tone;
    this.isFlat = isFlat;
    this.windows = windows;
  }
}

/** A rectangle of ground between streets. */
class Plot {
  public static inline var HOUSES = 0;
  public static inline var PARK = 1;
  public static inline var HEDGE = 2;
  public static inline var POND = 3;

  public var kind:Int;
  public var x:Float;
  public var y:Float;
  public var w:Float;
  public var h:Float;
  public var houses:Array<House> = [];
  /** Of its trees: x, y, radius, ... */
  public var trees:Array<Float> = [];

  public function new(kind:Int, x:Float, y:Float, w:Float, h:Float) {
    this.kind = kind;
    this.x = x;
    this.y = y;
    this.w = w;
    this.h = h;
  }
}

/** The streets of one episode: a grid of crossings of which some links are built over. */
class Town {
  public static inline var COLUMNS = 9;
  public static inline var ROWS = 8;
  /** From the middle of a street to the walls beside it, and to its kerb. */
  public static inline var HALF = 72.0;
  public static inline var KERB = 56.0;

  public var xs(default, null):Array<Float> = [];
  public var ys(default, null):Array<Float> = [];
  public var plots(default, null):Array<Plot> = [];

  /** Whether a street leads east from a crossing, and south from it. */
  var east:Vector<Bool>;
  var south:Vector<Bool>;
  var prng:Prng;

  public function new(prng:Prng) {
    this.prng = prng;
    var at = 0.0;
    for (i in 0...COLUMNS) {
      xs.push(at);
      at += Math.round(prng.range(300, 420));
    }
    at = 0;
    for (j in 0...ROWS) {
      ys.push(at);
      at += Math.round(prng.range(290, 390));
    }
    east = new Vector<Bool>(COLUMNS * ROWS, true);
    south = new Vector<Bool>(COLUMNS * ROWS, true);
    for (j in 0...ROWS) for (i in 0...COLUMNS) {
      east[j * COLUMNS + i] = i < COLUMNS - 1;
      south[j * COLUMNS + i] = j < ROWS - 1;
    }
    for (n in 0...34) buildOver(1 + prng.below(COLUMNS - 2), 1 + prng.below(ROWS - 2), prng.unit() < 0.5);
    for (j in 0...ROWS - 1) for (i in 0...COLUMNS - 1) settle(i, j);
    for (j in 0...ROWS) for (i in 0...COLUMNS) hedge(i, j);
  }

  /** Whether a street leads from a crossing one step in that direction (0 east, 1 south, 2 west, 3 north). */
  public function leads(i:Int, j:Int, direction:Int):Bool {
    return switch (direction) {
      case 0: east[j * COLUMNS + i];
      case 1: south[j * COLUMNS + i];
      case 2: i > 0 && east[j * COLUMNS + i - 1];
      default: j > 0 && south[(j - 1) * COLUMNS + i];
    }
  }

  public static inline function stepX(direction:Int):Int return direction == 0 ? 1 : (direction == 2 ? -1 : 0);

  public static inline function stepY(direction:Int):Int return direction == 1 ? 1 : (direction == 3 ? -1 : 0);

  /** Whether something of that radius fits on the street there. */
  public function isOpen(px:Float, py:Float, radius:Float):Bool {
    var reach = HALF - radius;
    var i = nearest(xs, px);
    var j = nearest(ys, py);
    var dx = px - xs[i];
    var dy = py - ys[j];
    var isOnColumn = dx <= reach && dx >= -reach;
    var isOnRow = dy <= reach && dy >= -reach;
    if (isOnColumn && isOnRow) return true;
    if (isOnColumn) return leads(i, j, dy > 0 ? 1 : 3);
    if (isOnRow) return leads(i, j, dx > 0 ? 0 : 2);
    return false;
  }

  static function nearest(places:Array<Float>, value:Float):Int {
    var best = 0;
    for (k in 1...places.length) if (Math.abs(places[k] - value) < Math.abs(places[best] - value)) best = k;
    return best;
  }

  function degree(i:Int, j:Int):Int {
    var sum = 0;
    for (direction in 0...4) if (leads(i, j, direction)) sum++;
    return sum;
  }

  function buildOver(i:Int, j:Int, isEast:Bool):Void {
    var links = isEast ? east : south;
    var otherI = isEast ? i + 1 : i;
    var otherJ = isEast ? j : j + 1;
    if (links[j * COLUMNS + i] && degree(i, j) > 3 && degree(otherI, otherJ) > 3) links[j * COLUMNS + i] = false;
  }

  /** Fills the ground between four crossings. */
  function settle(i:Int, j:Int):Void {
    var left = xs[i] + HALF;
    var top = ys[j] + HALF;
    var chance = prng.unit();
    var kind = chance < 0.8 ? Plot.HOUSES : (chance < 0.93 ? Plot.PARK : Plot.POND);
    var plot = new Plot(kind, left, top, xs[i + 1] - HALF - left, ys[j + 1] - HALF - top);
    plots.push(plot);
    if (kind == Plot.HOUSES) divide(plot, plot.x + 2, plot.y + 2, plot.w - 4, plot.h - 4, 0);
    else {
      var count = kind == Plot.PARK ? 30 : 20;
      for (n in 0...count) {
        var tx = prng.range(14, plot.w - 14);
        var ty = prng.range(14, plot.h - 14);
        var isInside = kind == Plot.POND && Math.abs(tx / plot.w - 0.5) < 0.34 && Math.abs(ty / plot.h - 0.5) < 0.34;
        if (!isInside) addTree(plot, plot.x + tx, plot.y + ty, prng.range(11, 21));
      }
    }
  }

  static function addTree(plot:Plot, tx:Float, ty:Float, radius:Float):Void {
    var n = 0;
    while (n < plot.trees.length) {
      var dx = plot.trees[n] - tx;
      var dy = plot.trees[n + 1] - ty;
      var apart = plot.trees[n + 2] + radius;
      if (dx * dx + dy * dy < apart * apart) return;
      n += 3;
    }
    plot.trees.push(tx);
    plot.trees.push(ty);
    plot.trees.push(radius);
  }

  function divide(plot:Plot, left:Float, top:Float, w:Float, h:Float, depth:Int):Void {
    var longest = Math.max(w, h);
    if (depth < 3 && longest > 120) {
      var cut = prng.range(0.4, 0.6);
      if (w > h) {
        divide(plot, left, top, w * cut, h, depth + 1);
        divide(plot, left + w * cut, top, w * (1 - cut), h, depth + 1);
      } else {
        divide(plot, left, top, w, h * cut, depth + 1);
        divide(plot, left, top + h * cut, w, h * (1 - cut), depth + 1);
      }
      return;
    }
    if (depth > 1 && prng.unit() < 0.12) {
      for (n in 0...3) addTree(plot, left + prng.range(0.25, 0.75) * w, top + prng.range(0.25, 0.75) * h, prng.range(10, 18));
      return;
    }
    var inset = prng.range(3, 9);
    var isFlat = prng.unit() < 0.22;
    plot.houses.push(new House(left + inset, top + inset, w - 2 * inset, h - 2 * inset, prng.range(0.07, isFlat ? 0.24 : 0.15), prng.below(6), isFlat, prng.below(64)));
  }

  /** Plants the links that were built over. */
  function hedge(i:Int, j:Int):Void {
    if (i < COLUMNS - 1 && !leads(i, j, 0)) plant(new Plot(Plot.HEDGE, xs[i] + HALF, ys[j] - HALF, xs[i + 1] - xs[i] - 2 * HALF, 2 * HALF));
    if (j < ROWS - 1 && !leads(i, j, 1)) plant(new Plot(Plot.HEDGE, xs[i] - HALF, ys[j] + HALF, 2 * HALF, ys[j + 1] - ys[j] - 2 * HALF));
  }

  function plant(plot:Plot):Void {
    plots.push(plot);
    var count = Std.int(plot.w * plot.h / 1700);
    for (n in 0...count) addTree(plot, plot.x + prng.range(12, plot.w - 12), plot.y + prng.range(12, plot.h - 12), prng.range(12, 20));
  }
}
