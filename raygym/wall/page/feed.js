// The one stream of the page: rows and pictures in batches, each acknowledged once it is drawn.

const PATIENCE_MS = [500, 1000, 2000, 4000];

export class Feed {
  // hears: rows(list), pictures(list of {key, kind, width, height, taken_ms, data}), gone(keys), state(problem)
  constructor(hears) {
    this.hears = hears;
    this.wanted = { visible: [], large: null };
    this.tries = 0;
    this.connect();
  }

  want(visible, large) {
    const wanted = { visible, large };
    if (JSON.stringify(wanted) === JSON.stringify(this.wanted)) return;
    this.wanted = wanted;
    this.send(wanted);
  }

  connect() {
    this.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.tries = 0; this.isFirst = true; this.send(this.wanted); };
    this.socket.onmessage = (event) => this.take(event.data);
    this.socket.onclose = () => {
      this.hears.state("The server of the wall does not answer. Pictures stand still.");
      setTimeout(() => this.connect(), PATIENCE_MS[Math.min(this.tries++, PATIENCE_MS.length - 1)]);
    };
  }

  send(said) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(said));
  }

  async take(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const now = performance.now();
    let offset = 4 + length;
    const pictures = head.pictures.map((picture) => {
      const data = new Uint8Array(buffer, offset, picture.bytes);
      offset += picture.bytes;
      return { ...picture, data, taken_ms: now - 1000 * picture.age_s };
    });
    this.hears.state(head.problem ? `The hub does not answer: ${head.problem}` : "");
    // After a break the server tells of every slot that is there.
    if (this.isFirst && !head.problem) this.hears.all(head.rows.map((row) => row.key));
    this.isFirst = this.isFirst && Boolean(head.problem);
    this.hears.gone(head.gone);
    this.hears.rows(head.rows);
    await this.hears.pictures(pictures);
    this.send({ got: true });
  }
}
