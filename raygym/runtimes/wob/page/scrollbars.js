// Scrollbars for lock-step: the browser's own follow the pointer in real time, so a press on one
// is taken here, and moves it at once.
"use strict";

window.scrollbars = (() => {
  const LINE_PX = 40, PAGE_SHARE = 0.875, SHORTEST_THUMB_PX = 17;
  const AXES = [
    {start: "top", size: "clientHeight", all: "scrollHeight", at: "scrollTop", border: "clientTop"},
    {start: "left", size: "clientWidth", all: "scrollWidth", at: "scrollLeft", border: "clientLeft"},
  ];
  let held = null;  // {element, axis, from, fromPx, scale}

  const extent = (element, isRoot, axis) => axis === 0
    ? (isRoot ? element.ownerDocument.defaultView.innerHeight : element.offsetHeight)
    : (isRoot ? element.ownerDocument.defaultView.innerWidth : element.offsetWidth);

  // Where a bar along an axis lies, if the element has one: its track, and how thick it is.
  function barOf(element, axis) {
    const isRoot = element === element.ownerDocument.documentElement;
    const {start, size, all, border} = AXES[axis], across = AXES[1 - axis];
    const box = isRoot ? {top: 0, left: 0} : element.getBoundingClientRect();
    const borders = isRoot ? 0 : 2 * element[across.border];
    const thick = extent(element, isRoot, 1 - axis) - element[across.size] - borders;
    if (thick <= 0 || element[all] <= element[size]) return null;
    return {
      start: box[start] + (isRoot ? 0 : element[border]), length: element[size], thick,
      aside: box[across.start] + (isRoot ? 0 : element[across.border]) + element[across.size],
    };
  }

  function hit(element, axis, place) {
    const bar = barOf(element, axis);
    if (bar === null) return null;
    const along = place[axis] - bar.start, beside = place[1 - axis] - bar.aside;
    if (along < 0 || along >= bar.length || beside < 0 || beside >= bar.thick) return null;
    const isResizable = element.ownerDocument.defaultView.getComputedStyle(element).resize !== "none";
    return isResizable && along >= bar.length - bar.thick ? null : {bar, along};
  }

  function press(element, axis, {bar, along}, px) {
    const {size, all, at} = AXES[axis];
    const track = bar.length - 2 * bar.thick, most = element[all] - element[size];
    const thumb = Math.max(SHORTEST_THUMB_PX, track * element[size] / element[all]);
    const thumbAt = bar.thick + (track - thumb) * element[at] / most;
    if (along < bar.thick) element[at] -= LINE_PX;
    else if (along >= bar.length - bar.thick) element[at] += LINE_PX;
    else if (along < thumbAt) element[at] -= PAGE_SHARE * element[size];
    else if (along >= thumbAt + thumb) element[at] += PAGE_SHARE * element[size];
    else held.scale = most / Math.max(1, track - thumb);
    Object.assign(held, {from: element[at], fromPx: px});
  }

  return {
    // Takes a press at a place of the document if a bar is there; answers whether it did.
    grab(document, x, y) {
      held = null;
      const element = document.elementFromPoint(x, y) ?? document.documentElement;
      for (const one of new Set([element, document.documentElement]))
        for (const axis of [0, 1]) {
          const found = hit(one, axis, [y, x]);
          if (found === null) continue;
          held = {element: one, axis, scale: 0};
          press(one, axis, found, axis === 0 ? y : x);
          return true;
        }
      return false;
    },

    // Moves what is held; answers whether something is.
    drag(x, y) {
      if (held === null) return false;
      const {element, axis, from, fromPx, scale} = held;
      if (scale > 0) element[AXES[axis].at] = from + ((axis === 0 ? y : x) - fromPx) * scale;
      return true;
    },

    // Lets go; answers whether something was held.
    release() {
      const wasHeld = held !== null;
      held = null;
      return wasHeld;
    },
  };
})();
