// Draws what an agent sees: a JPEG, or numbers as bars.

const CRISP_PX = 128;

export async function draw(canvas, picture) {
  if (picture.kind === "numbers") return drawNumbers(canvas, picture.data);
  const bitmap = await createImageBitmap(new Blob([picture.data], { type: "image/jpeg" }));
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.classList.toggle("crisp", Math.max(bitmap.width, bitmap.height) <= CRISP_PX);
  }
  canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
  bitmap.close();
}

// The page's own colours; a canvas knows no variables.
function color(canvas, name) {
  canvas.style.color = `var(${name})`;
  const found = getComputedStyle(canvas).color;
  canvas.style.color = "";
  return found;
}

function drawNumbers(canvas, data) {
  const values = new Float32Array(data.slice().buffer);
  const width = 320, height = 240, pad = 28;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const most = Math.max(1, ...values.map(Math.abs));
  const step = (width - 2 * pad) / values.length, middle = height / 2;
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = color(canvas, "--well");
  context.fillRect(0, 0, width, height);
  context.fillStyle = color(canvas, "--accent");
  values.forEach((value, i) => {
    const bar = (middle - pad) * (value / most);
    context.fillRect(pad + step * (i + 0.15), Math.min(middle, middle - bar), step * 0.7, Math.abs(bar));
  });
  context.fillStyle = color(canvas, "--soft");
  context.fillRect(pad, middle - 0.5, width - 2 * pad, 1);
}

const stamp = () => new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `raygym-${name.replace(/[^\w.-]+/g, "-")}-${stamp()}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// One PNG of many tiles: their pictures in a grid, each with its slot, score and state.
export function saveTiles(tiles, caption) {
  const columns = Math.max(1, Math.ceil(Math.sqrt(tiles.length * 1.2)));
  const width = 240, height = 180, text = 44, gap = 12, top = 44;
  const canvas = document.createElement("canvas");
  canvas.width = columns * (width + gap) + gap;
  canvas.height = top + Math.ceil(tiles.length / columns) * (height + text + gap) + gap;
  const style = getComputedStyle(document.body);
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = style.backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = style.color;
  context.textBaseline = "top";
  context.font = `600 15px ${style.fontFamily}`;
  context.fillText(caption, gap, 15);
  tiles.forEach((tile, i) => {
    const x = gap + (i % columns) * (width + gap);
    const y = top + Math.floor(i / columns) * (height + text + gap);
    const from = tile.canvas;
    const scale = Math.min(width / from.width, height / from.height);
    const size = [from.width * scale, from.height * scale];
    context.imageSmoothingEnabled = !from.classList.contains("crisp");
    if (tile.hasPicture) context.drawImage(from, x + (width - size[0]) / 2, y + (height - size[1]) / 2, ...size);
    const [head, under] = tile.words();
    context.font = `600 14px ${style.fontFamily}`;
    context.fillText(head, x, y + height + 5, width);
    context.font = `13px ${style.fontFamily}`;
    context.fillText(under, x, y + height + 23, width);
  });
  canvas.toBlob((blob) => download(blob, "wall"), "image/png");
}
