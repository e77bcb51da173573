// Pictures scaled down where they are made, as OpenCV does it (COLOR_RGB2GRAY, then INTER_AREA):
// a twentieth of the bytes leaves the page.
"use strict";

const shrinker = (() => {
  // Each of `size` pixels lies in the target at `index`, with `here`; what is left, in the next.
  function shares(size, count) {
    const scale = size / count;
    const index = new Int32Array(size), here = new Float32Array(size), next = new Float32Array(size);
    for (let i = 0; i < size; i++) {
      const target = Math.min(count - 1, Math.floor(i / scale));
      const border = (target + 1) * scale;
      const isWhole = target === count - 1 || i + 1 <= border + 1e-9;
      index[i] = target;
      here[i] = (isWhole ? 1 : border - i) / scale;
      next[i] = isWhole ? 0 : (i + 1 - border) / scale;
    }
    return {index, here, next};
  }

  function rounded(sum) {  // halves to the even number
    const near = Math.round(sum);
    return near - sum === 0.5 && near & 1 ? near - 1 : near;
  }

  // Adds one row of the source to a row of sums, `channels` numbers a pixel.
  function addRow(pixels, start, columns, row, channels) {
    const {index, here, next} = columns;
    row.fill(0);
    for (let x = 0; x < index.length; x++) {
      const pixel = pixels[start + x];
      const red = pixel & 255, green = pixel >> 8 & 255, blue = pixel >> 16 & 255;
      const at = index[x] * channels, weight = here[x], rest = next[x];
      if (channels === 1) {
        const luma = red * 9798 + green * 19235 + blue * 3735 + 16384 >> 15;
        row[at] += luma * weight;
        if (rest) row[at + 1] += luma * rest;
        continue;
      }
      row[at] += red * weight;
      row[at + 1] += green * weight;
      row[at + 2] += blue * weight;
      if (!rest) continue;
      row[at + 3] += red * rest;
      row[at + 4] += green * rest;
      row[at + 5] += blue * rest;
    }
  }

  // For pictures of one size: pixels as RGBA bytes to a Uint8Array[height * width * (1 or 3)].
  return function shrinker(sourceWidth, sourceHeight, {width, height, is_grey: isGrey}) {
    const channels = isGrey ? 1 : 3;
    const columns = shares(sourceWidth, width), rows = shares(sourceHeight, height);
    const row = new Float32Array(width * channels), sums = new Float32Array(height * row.length);
    const made = new Uint8Array(sums.length);
    return data => {
      const pixels = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
      sums.fill(0);
      for (let y = 0; y < sourceHeight; y++) {
        addRow(pixels, y * sourceWidth, columns, row, channels);
        const at = rows.index[y] * row.length, weight = rows.here[y], rest = rows.next[y];
        for (let i = 0; i < row.length; i++) sums[at + i] += row[i] * weight;
        if (rest) for (let i = 0; i < row.length; i++) sums[at + row.length + i] += row[i] * rest;
      }
      for (let i = 0; i < made.length; i++) made[i] = rounded(sums[i]);
      return made;
    };
  };
})();
