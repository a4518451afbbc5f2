// What the samples speak of: files, a web server with models behind it, and the names that a fragment takes for granted.
import { readFileSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { basename, join } from "node:path";
import {
  bearerTokens,
  createModelServer,
  delta,
  linearCodes,
  listen,
  streamModel,
  transferModel,
} from "@tensorwire/stream";

const SHAPES = {
  "model.embed_tokens.weight": [512, 64],
  "model.layers.0.attn.weight": [128, 64],
  "model.layers.0.norm.weight": [64],
  "model.layers.1.mlp.weight": [128, 64],
  "model.layers.1.mlp.lora_A.weight": [8, 64],
  "model.layers.1.mlp.lora_B.weight": [128, 8],
  "model.final.norm.weight": [64],
  "lm_head.weight": [512, 64],
};

/** A model of some tensors; with another `seed`, another one near it. */
export function tensors(seed = 0) {
  const made = Object.entries(SHAPES).map(([name, shape]) => {
    const data = new Float32Array(shape.reduce((product, dimension) => product * dimension, 1));
    for (let i = 0; i < data.length; i++) data[i] = Math.sin(i + name.length) + seed * 0.01 * Math.cos(i * 3);
    return [name, { dtype: "F32", shape, data }];
  });
  return Object.fromEntries(made);
}

export const TOKEN = "c2l4dGVlbi1jaGFyYWN0ZXJzLW9yLW1vcmU";

/** The token of one of several clients. */
export const tokenOf = (name) => (name === "anyone" ? TOKEN : `${TOKEN}-${name}`);

/** Files under the names that the samples have for them. */
export async function writeFiles(folder, { ca, server, client }) {
  const at = (name) => join(folder, name);
  for (const name of ["models/llama", "rounds", "updates", "spool", "artifacts", "round-7", "shards"]) {
    await mkdir(at(name), { recursive: true });
  }
  const models = {
    "model.safetensors": 0,
    "trained.safetensors": 1,
    "round-7.safetensors": 0,
    "update.safetensors": 2,
  };
  for (const [name, seed] of Object.entries(models)) await transferModel(tensors(seed), at(name));
  await transferModel(at("model.safetensors"), at("models/llama/model.safetensors"));
  for (const name of ["model.twire", "base.twire", "round-7.twire"]) {
    await transferModel(at("model.safetensors"), at(name), { codec: "normfloat4" });
  }
  for (const exact of ["base.safetensors", "models/round-0.twire"])
    await transferModel(at("model.safetensors"), at(exact));
  await transferModel(delta(at("trained.safetensors"), at("round-7.twire")), at("update.twire"));
  for (const [i, name] of ["ada", "bob", "eve"].entries()) {
    for (const path of [`${name}.twire`, `round-7/${name}.twire`]) {
      await transferModel(tensors(i), at(path), { codec: "float16", metadata: { num_examples: "10" } });
    }
  }
  await mkdir(at("tfjs"));
  const weights = [{ name: "bias", shape: [4], dtype: "float32" }];
  await writeFile(
    at("tfjs/model.json"),
    JSON.stringify({ weightsManifest: [{ paths: ["weights.bin"], weights }] }),
  );
  await writeFile(at("tfjs/weights.bin"), new Uint8Array(16));
  await writeFile(at("weights.bin"), new Uint8Array(100_000).fill(7));
  await writeFile(at("token"), TOKEN);
  await writeFile(
    at("tokens.json"),
    JSON.stringify({ "site-1": { token: TOKEN, publish: ["*"], fetch: true } }),
  );
  const pems = {
    "ca.pem": ca,
    "here.pem": server.cert,
    "here.key": server.key,
    "c.pem": server.cert,
    "cert.pem": server.cert,
    "key.pem": server.key,
    "k.pem": server.key,
  };
  for (const [name, text] of Object.entries({
    ...pems,
    "client.pem": client.cert,
    "client.key": client.key,
  })) {
    await writeFile(at(name), text);
  }
}

/** Ranges of the files of a folder, as any web server gives them. */
function webServer(folder) {
  return async (request, response) => {
    if (request.url.startsWith("/models/")) return;
    const bytes = await readFile(join(folder, basename(request.url))).catch(() => undefined);
    if (bytes === undefined) return void response.writeHead(404).end();
    const [, first = "0", last = String(bytes.length - 1)] =
      /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    const part = bytes.subarray(Number(first), Number(last) + 1);
    const range = request.headers.range && { "content-range": `bytes ${first}-${last}/${bytes.length}` };
    const headers = { "accept-ranges": "bytes", etag: '"1"', "content-length": part.length, ...range };
    response.writeHead(range ? 206 : 200, headers).end(request.method === "HEAD" ? undefined : part);
  };
}

/** Servers in clear text and with TLS: they have a model for any name, take one under any, and give the files of a folder. */
export async function openHub(folder, { server: identity }) {
  const opened = [];
  const open = async (web) => {
    web.on("request", webServer(folder));
    await new Promise((done) => web.listen(0, "127.0.0.1", done));
    // Beside the files: those are copied while uploads come and go.
    const uploads = join(folder, "../hub", String(web.address().port));
    await mkdir(uploads, { recursive: true });
    const model = join(folder, "model.safetensors");
    const find = () => ({ options: { codec: "float16" }, open: () => model });
    const receive = { overwrite: true };
    const authorize = () => ({ name: "anyone", publish: true, fetch: true });
    const models = await createModelServer({ server: web, find, uploads, receive, authorize });
    opened.push(() => models.close().then(() => web.close()));
    return web.address().port;
  };
  const plain = await open(createServer());
  const secure = await open(createSecureServer(identity));
  return { plain, secure, close: () => Promise.all(opened.map((close) => close())) };
}

/** What stands in a sample for a machine elsewhere, on this one; its own port 9000 is `port`, and its sockets are in `folder`. */
export function onThisMachine(code, { plain, secure, port, folder }) {
  const own = /createModelServer\(|listen\(|--listen/.test(code);
  return code
    .replace(
      /\b(wss?|https?):\/\/(host|hub|edge|server|hub\.example|models\.example|127\.0\.0\.1)(?::\d+)?(?![\w.])(\/[\w\-/.${}]*)?/g,
      (all, scheme, name, path = "") => {
        const encrypted = scheme === "wss" || scheme === "https";
        if (own && /:9000|:9001/.test(all) && name !== "hub.example") {
          return `${scheme}://127.0.0.1:${port + Number(all.includes(":9001"))}${path}`;
        }
        const bare = /createAgent\(|tensorwire agent/.test(code);
        const there = bare
          ? path
          : /\.twire$|^\/models\//.test(path)
            ? path
            : `/models${path || `/any-${port}`}`;
        return `${scheme}://127.0.0.1:${encrypted ? secure : plain}${there}`;
      },
    )
    .replace(
      /\b(0\.0\.0\.0|127\.0\.0\.1):(900[01])\b/g,
      (_, __, digits) => `127.0.0.1:${port + Number(digits) - 9000}`,
    )
    .replace(/\bport: 9000\b/g, `port: ${port}`)
    .replace(/\blisten\(9464\)/g, `listen(${port})`)
    .replaceAll("/tmp/model.sock", `${folder}/model.sock`);
}

/** What a fragment takes for granted, by name: each is made when a sample uses it. */
export function grantedNames({ plain, folder }) {
  const pem = (name) => readFileSync(join(folder, name), "utf8");
  const tls = () => ({ cert: pem("here.pem"), key: pem("here.key") });
  const web = async () => {
    const server = createServer();
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    return server;
  };
  /** A server to whose rounds sixteen clients come. */
  const server = async () => {
    const models = await createModelServer({ port: 0, uploads: "updates" });
    const collect = models.collect.bind(models);
    models.collect = async (name, options) => {
      const round = await collect(name, options);
      for (let i = 0; i < 16; i++)
        void streamModel(tensors(i), models.urlOf(`${name}/client-${i}`)).catch(() => {});
      return round;
    };
    return models;
  };
  return {
    use: () => () => {},
    url: () => `ws://127.0.0.1:${plain}/models/base`,
    destination: () => `ws://127.0.0.1:${plain}/models/given`,
    token: () => TOKEN,
    dial: () => ({ token: TOKEN }),
    tls,
    cert: () => tls().cert,
    key: () => tls().key,
    ca: () => pem("ca.pem"),
    authorize: () =>
      bearerTokens(
        Object.fromEntries(
          ["anyone", "ada", "bob", "eve"].map((name) => [
            name,
            { token: tokenOf(name), publish: true, fetch: true },
          ]),
        ),
      ),
    round: () => 7,
    web,
    server,
    models: server,
    train: () => async () => tensors(1),
    pino: () => () => ({ debug() {}, info() {}, warn() {}, error() {} }),
    update: () => "update.safetensors",
    sums: () => linearCodes(tensors(3), { scale: 2 ** -16, ring: 32 }),
    uploads: () => [1, 2].map((seed) => linearCodes(tensors(seed), { scale: 2 ** -16, ring: 32 })),
    listener: async () => {
      const listener = await listen({ port: 0 });
      void streamModel(tensors(), listener.url).catch(() => {});
      return listener;
    },
  };
}
