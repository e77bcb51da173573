// The clock strip: 88 cells of 4x8 px, black or white, most significant bit first, as
// raygym/wire/timing.py reads it. And the input events that it tells of.
"use strict";

const clockStrip = (() => {
  const ANCHOR = 0b10110010, CELLS = 88, CELL_PX = 4, HEIGHT_PX = 8;
  const WHITE = 0xffffffff, BLACK = 0xff000000;
  const last = {inputAtMs: Date.now(), inputCount: 0};
  let context = null, image = null, pixels = null;

  function crc8(bytes) {
    let crc = 0;
    for (const byte of bytes) {
      crc ^= byte;
      for (let i = 0; i < 8; i++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
    }
    return crc;
  }

  function word(ms) {
    const low = ms % 2 ** 32;
    return [low / 2 ** 24 & 255, low / 2 ** 16 & 255, low / 2 ** 8 & 255, low & 255];
  }

  function cells(paintedAtMs) {
    const payload = [...word(paintedAtMs), ...word(last.inputAtMs), last.inputCount];
    return [ANCHOR, ...payload, crc8(payload)];
  }

  return {
    open(canvas) {
      context = canvas.getContext("2d", {alpha: false, willReadFrequently: true});
      image = context.createImageData(CELLS * CELL_PX, HEIGHT_PX);
      pixels = new Uint32Array(image.data.buffer);
    },

    paint() {
      const bytes = cells(Date.now()), row = CELLS * CELL_PX;
      for (let cell = 0; cell < CELLS; cell++) {
        const bit = bytes[cell >> 3] >> (7 - (cell & 7)) & 1;
        pixels.fill(bit ? WHITE : BLACK, cell * CELL_PX, (cell + 1) * CELL_PX);
      }
      for (let y = 1; y < HEIGHT_PX; y++) pixels.copyWithin(y * row, 0, row);
      context.putImageData(image, 0, 0);
    },

    sawInput() {
      last.inputAtMs = Date.now();
      last.inputCount = (last.inputCount + 1) & 255;
    },
  };
})();
