// A side of bench_wasm.py in Node, which answers the commands of worker.py: `node wasm_worker.mjs SIDE MODEL WORK LOCATION`.

import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [side, folder, work, location] = process.argv.slice(2);
const bytes = (path) => new Uint8Array(readFileSync(join(folder, path)));
const read = (name) => JSON.parse(readFileSync(join(work, name), "utf-8"));
const texts = read("texts.json");
// What chandelier made of the texts: the peers are given ids, and their clocks do not run for tokenising.
const tokenised = side.startsWith("chandelier") ? null : read("ids.json");

/** Each loads its program, then a model: a function of a kind and the places of texts, which gives a matrix a text. */
const sides = {
  chandelier(dtype) {
    const { ColBERT } = createRequire(import.meta.url)(join(location, "chandelier.js"));
    return () => {
      const names = readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name)).isFile());
      const model = new ColBERT(Object.fromEntries(names.map((name) => [name, bytes(name)])), { dtype });
      return (kind, places) => {
        const wanted = places.map((place) => texts[kind][place]);
        const rows = kind === "queries" ? model.encodeQueries(wanted) : model.encodeDocuments(wanted);
        const { data, dim } = rows;
        rows.free();
        return { data: [data], dim };
      };
    };
  },

  candle() {
    const { Encoder } = createRequire(import.meta.url)(join(location, "chandelier.js"));
    return () => {
      const config = readFileSync(join(folder, "config.json"), "utf-8");
      const model = new Encoder(config, bytes("model.safetensors"), bytes("1_Dense/model.safetensors"));
      const inputs = feeds(({ ids, attended }) => [Uint32Array.from(ids), attended]);
      return (kind, places) => ofAll(kind, places, (place) => model.encode(...inputs[kind][place]));
    };
  },

  async onnxruntime() {
    const ort = await import(join(location, "node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs"));
    ort.env.wasm.numThreads = 1;
    return async () => {
      const graph = new Uint8Array(readFileSync(join(work, "graph.onnx")));
      const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
      const session = await ort.InferenceSession.create(graph, options);
      const inputs = feeds(({ ids, attended }) => {
        const tensor = (values) => new ort.Tensor("int32", Int32Array.from(values), [1, ids.length]);
        return {
          input_ids: tensor(ids),
          token_type_ids: tensor(ids.map(() => 0)),
          attention_mask: tensor(ids.map((_, place) => Number(place < attended))),
        };
      });
      const run = async (kind, place) => Object.values(await session.run(inputs[kind][place]))[0].data;
      return (kind, places) => ofAll(kind, places, (place) => run(kind, place));
    };
  },
};

/** Every text as a peer wants it. */
function feeds(feed) {
  return Object.fromEntries(Object.entries(tokenised).map(([kind, all]) => [kind, all.map(feed)]));
}

async function ofAll(kind, places, encode) {
  const data = [];
  for (const place of places) {
    data.push(await encode(place));
  }
  return { data, dim: data[0].length / tokenised[kind][places[0]].ids.length };
}

/** The rows that count, one after the other: chandelier drops those of a skiplist by itself. */
function kept(kind, { data, dim }) {
  const rows = data.flatMap((matrix, text) =>
    Array.from({ length: matrix.length / dim }, (_, row) => row)
      .filter((row) => tokenised === null || tokenised[kind][text].keep[row])
      .map((row) => matrix.subarray(row * dim, (row + 1) * dim)),
  );
  return { rows, dim };
}

/** A file that numpy reads. */
function saveRows(path, { rows, dim }) {
  const shape = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows.length}, ${dim}), }`;
  const header = Buffer.from(shape.padEnd(117) + "\n"); // 128 bytes with what stands before it
  const magic = Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0, header.length, 0]);
  writeFileSync(path, Buffer.concat([magic, header, ...rows.map((row) => new Uint8Array(row.slice().buffer))]));
}

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

const every = (kind) => texts[kind].map((_, place) => place);
const [begun, begunCpu] = [performance.now(), cpuSeconds()];
const steps = [begun];
const mark = () => steps.push(performance.now());
const [name, dtype] = side.split(" ");
const open = await sides[name](dtype);
mark();
const encode = await open();
mark();
await encode("queries", [0]);
mark();
const took = (from, to) => steps[to] - steps[from];
const hello = {
  versions: { Node: process.version.slice(1) },
  import_ms: took(0, 1),
  load_ms: took(1, 2),
  first_query_ms: took(2, 3),
  start_ms: took(0, 3),
  start_cpu_ms: 1e3 * (cpuSeconds() - begunCpu),
};

const commands = {
  async documents() {
    const [wall, cpu] = [performance.now(), cpuSeconds()];
    await encode("documents", every("documents"));
    return { wall_s: (performance.now() - wall) / 1e3, cpu_s: cpuSeconds() - cpu };
  },
  async one_query() {
    const cpu = cpuSeconds();
    const ms = [];
    for (const place of every("queries")) {
      const wall = performance.now();
      await encode("queries", [place]);
      ms.push(performance.now() - wall);
    }
    return { ms, cpu_ms: 1e3 * (cpuSeconds() - cpu) };
  },
  async rows(folder) {
    for (const kind of ["documents", "queries"]) {
      saveRows(join(folder, `${kind}.npy`), kept(kind, await encode(kind, every(kind))));
    }
    return {};
  },
  memory() {
    return { mb: process.resourceUsage().maxRSS / 1024 };
  },
};
process.stdout.write(`${JSON.stringify(hello)}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const [command, argument] = line.split(" ");
  process.stdout.write(`${JSON.stringify(await commands[command](argument))}\n`);
}
