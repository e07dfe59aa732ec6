/* What the page knows: the index from the start, the evidence of a picture when it is looked at. */

const gapcam = {};

gapcam.data = (() => {
  const KEPT = 12; // pictures whose evidence is held at once

  const index = JSON.parse(document.getElementById("index").textContent);
  const held = new Map();

  /* A script beside the page hands over what it holds; whoever loaded it takes it from there. */
  gapcam.keep = (...parts) => {
    document.currentScript.kept = parts.at(-1);
  };

  /* What a file beside the page holds; `what` it is for, in words. */
  function load(file, what) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = file;
      script.onload = () => {
        script.remove();
        if (script.kept) resolve(script.kept);
        else reject(new Error(`${what} is damaged. Run cam explain again, with --report.`));
      };
      script.onerror = () => {
        script.remove();
        reject(new Error(`${what} is not beside this page. Keep report.html in the folder of its run.`));
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

  /* The array that cam/packing.py packed: Float32Array, rows behind rows. */
  async function unpack({ shape, quantum, planes, data }) {
    const values = new Float32Array(shape.reduce((product, length) => product * length, 1));
    const bytes = await inflate(bytesOf(data));
    const first = Math.ceil(values.length / 8);
    const count = (bytes.length - first) / planes;
    for (let i = 0, n = first; i < values.length; i++) {
      if (!(bytes[i >> 3] & (128 >> (i & 7)))) continue;
      let folded = 0;
      for (let plane = planes - 1; plane >= 0; plane--) folded = folded * 256 + bytes[n + plane * count];
      values[i] = quantum * (folded % 2 ? -(folded + 1) / 2 : folded / 2);
      n++;
    }
    return values;
  }

  const weight = index.weight && new Float32Array(bytesOf(index.weight).buffer);

  async function decoded(base64) {
    const image = new Image();
    image.src = `data:image/jpeg;base64,${base64}`;
    await image.decode();
    return image;
  }

  /* Of each place the largest evidence, its class, the next, and log of the sum over classes of exp(M + bias). */
  function unfold(leaders, places, quantum) {
    const [best, winner, second, total] = [0, 1, 2, 3].map((n) => leaders.subarray(n * places, (n + 1) * places));
    return { best, winner: winner.map((value) => value / quantum), second, total };
  }

  async function read(raw) {
    const { maps, rows, columns } = raw;
    const [image, values, logits, mapLogits, leaders] = await Promise.all([
      decoded(raw.photo),
      unpack(maps.values),
      unpack(raw.logits),
      raw.map_logits && unpack(raw.map_logits),
      unpack(maps.leaders),
    ]);
    const places = rows.length * columns.length;
    return {
      rows,
      columns,
      places,
      seen: raw.seen,
      image,
      logits,
      mapLogits: mapLogits || logits,
      kind: maps.kind,
      values, // maps of classes, or features
      scale: maps.scale,
      classes: maps.classes || null, // null: all
      row: maps.classes && new Map(maps.classes.map((c, row) => [c, row])),
      leaders: unfold(leaders, places, maps.leaders.quantum),
    };
  }

  async function fetchEvidence(number) {
    const { file, name } = index.pictures[number];
    if (file) return read(await load(file, `The evidence of ${name}`));
    return read(JSON.parse(document.getElementById(`evidence-${number}`).textContent));
  }

  /* A promise of the evidence of a picture; the ones used last are held. */
  function evidence(number) {
    const found = held.get(number) || fetchEvidence(number);
    held.delete(number);
    held.set(number, found);
    if (held.size > KEPT) held.delete(held.keys().next().value);
    found.catch(() => held.delete(number));
    return found;
  }

  const shards = new Map();

  /* A promise of the thumbnail of a picture, as the address of an image. */
  async function thumbnail(number) {
    let base64 = index.pictures[number].thumbnail;
    if (index.thumbnails) {
      const shard = Math.floor(number / index.thumbnails);
      const file = `report/thumbnails/${shard}.js`;
      if (!shards.has(shard)) shards.set(shard, load(file, file));
      base64 = (await shards.get(shard))[number % index.thumbnails];
    }
    return `data:image/jpeg;base64,${base64}`;
  }

  /* Of each picture how the page's address calls it: by its name, with its number where that is not quite text. */
  const addresses = index.pictures.map(({ name }, number) => {
    const text = new URLSearchParams({ name }).get("name");
    return text === name ? name : `${text}:${number}`;
  });

  return { index, weight, evidence, thumbnail, unpack, bytesOf, addresses };
})();
