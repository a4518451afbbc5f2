// A process that collects a round: killed and started again in the middle of it, by tests.
import { once } from "node:events";
import { createServer } from "node:http";
import { createModelServer } from "@tensorwire/stream";

const [port, folder, name, options] = process.argv.slice(2);
const web = createServer();
const server = await createModelServer({ server: web, uploads: folder });
// The round before the port: to whoever comes in between, this is a server that takes uploads of any name.
const round = await server.collect(name, JSON.parse(options));
web.listen(Number(port), "127.0.0.1");
await once(web, "listening");
console.error(`listening on ${server.url}`);
const say = (words) => console.error(words);
round.on("failed", ({ client, error }) => say(`failed ${client} ${error.code}`));
setInterval(() => {
  const { clients } = round.status();
  say(
    `status ${clients.map(({ client, state, percent }) => `${client}=${state}@${Math.floor(percent)}`).join(" ")}`,
  );
}, 50).unref();
try {
  const models = await round.done;
  console.log(JSON.stringify(models.map(({ client, path, digest }) => ({ client, path, digest }))));
} catch (error) {
  console.log(JSON.stringify({ code: error.code }));
}
await server.close();
web.close();
