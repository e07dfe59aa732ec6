/* The data of the page: the index from the start, the evidence of a picture when it is opened. */

const gapcam = {};

gapcam.data = (() => {
  const CACHED = 12; // pictures whose evidence stays in memory

  const index = JSON.parse(document.getElementById("index").textContent);
  const cache = new Map();

  /* A script of the run calls this with its data; `load` finds the data on the script element. */
  gapcam.receive = (...parts) => {
    document.currentScript.received = parts.at(-1);
  };

  /* A promise of the data in a script of the run; `name` is for error messages. */
  function load(file, name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = file;
      script.onload = () => {
        script.remove();
        if (script.received) resolve(script.received);
        else reject(new Error(`${name} is damaged. Run cam explain again, with --report.`));
      };
      script.onerror = () => {
        script.remove();
        reject(new Error(`${name} is missing. Keep the folder report next to report.html.`));
      };
      document.head.append(script);
    });
  }

  function bytesOf(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  async function inflate(bytes) {
    const { writable, readable } = new DecompressionStream("deflate-raw");
    const writer = writable.getWriter();
    const all = new Response(readable).arrayBuffer();
    const [buffer] = await Promise.all([all, writer.write(bytes), writer.close()]);
    return new Uint8Array(buffer);
  }

  /* A Float32Array of what cam/report/packing.py packed, row by row. */
  async function unpack({ shape, quantum, planes, data }) {
    const values = new Float32Array(shape.reduce((product, length) => product * length, 1));
    const bytes = await inflate(bytesOf(data));
    const start = Math.ceil(values.length / 8);
    const count = (bytes.length - start) / planes;
    for (let i = 0, n = start; i < values.length; i++) {
      if (!(bytes[i >> 3] & (128 >> (i & 7)))) continue;
      let folded = 0;
      for (let plane = planes - 1; plane >= 0; plane--) folded = folded * 256 + bytes[n + plane * count];
      values[i] = quantum * (folded % 2 ? -(folded + 1) / 2 : folded / 2);
      n++;
    }
    return values;
  }

  const weight = index.weight && new Float32Array(bytesOf(index.weight).buffer);

  async function decode(base64) {
    const image = new Image();
    image.src = addressOf(base64);
    await image.decode();
    return image;
  }

  /* For each cell: the largest evidence, its class, the second largest, and log of the sum of exp(M + bias). */
  function splitLeaders(leaders, cells, quantum) {
    const [best, winner, second, total] = [0, 1, 2, 3].map((n) => leaders.subarray(n * cells, (n + 1) * cells));
    return { best, winner: winner.map((value) => value / quantum), second, total };
  }

  async function read(raw) {
    const { maps, rows, columns } = raw;
    const [image, values, logits, mapLogits, leaders] = await Promise.all([
      decode(raw.photo),
      unpack(maps.values),
      unpack(raw.logits),
      raw.map_logits && unpack(raw.map_logits),
      maps.leaders && unpack(maps.leaders),
    ]);
    const cells = rows.length * columns.length;
    return {
      rows,
      columns,
      cells,
      seen: raw.seen,
      image,
      logits,
      mapLogits: mapLogits || logits,
      kind: maps.kind,
      values, // maps of classes, or features
      scale: maps.scale,
      classes: maps.classes || null, // null: all
      position: maps.classes && new Map(maps.classes.map((c, position) => [c, position])),
      leaders: leaders && splitLeaders(leaders, cells, maps.leaders.quantum),
      bases: maps.bases, // of the stored classes, as what their maps miss, and runs of the head, if there is a method
      missed: maps.missed,
      runs: maps.runs,
    };
  }

  async function readEvidence(number) {
    const { file, name } = index.pictures[number];
    if (file) return read(await load(file, `The evidence of ${name}`));
    return read(JSON.parse(document.getElementById(`evidence-${number}`).textContent));
  }

  /* A promise of the evidence of a picture, cached. */
  function evidence(number) {
    const promise = cache.get(number) || readEvidence(number);
    cache.delete(number);
    cache.set(number, promise);
    if (cache.size > CACHED) cache.delete(cache.keys().next().value); // the least recently used
    promise.catch(() => cache.delete(number));
    return promise;
  }

  const blocks = new Map(); // of previews

  /* A promise of the preview of a picture: its thumbnail, and the map of its predicted class with its positions. */
  async function preview(number) {
    if (!index.previews) return index.pictures[number].preview;
    const block = Math.floor(number / index.previews);
    const file = `report/previews/${block}.js`;
    if (!blocks.has(block)) blocks.set(block, load(file, file));
    return (await blocks.get(block))[number % index.previews];
  }

  const addressOf = (jpeg) => `data:image/jpeg;base64,${jpeg}`;

  /* What each picture is called in the page's address: its name, with its number if the name is not valid text. */
  const addresses = index.pictures.map(({ name }, number) => {
    const text = new URLSearchParams({ name }).get("name");
    return text === name ? name : `${text}:${number}`;
  });

  return { index, weight, evidence, preview, addressOf, decode, unpack, bytesOf, addresses };
})();
