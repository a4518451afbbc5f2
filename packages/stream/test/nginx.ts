import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Debian's lies where only administrators look.
const PROGRAM = ["nginx", "/usr/sbin/nginx"].find((name) => spawnSync(name, ["-v"]).status === 0);

export const hasNginx = PROGRAM !== undefined;
if (!hasNginx) console.log("SKIPPED: needs nginx");

/** nginx as it comes, but for where it keeps its files. */
export class Nginx {
  #process: ChildProcess | undefined;

  private constructor(
    private readonly folder: string,
    private readonly port: number,
  ) {}

  /** @param keepAlive Whether it keeps its connections to the server, which it does not by default. */
  static before(serverUrl: string, { keepAlive }: { keepAlive: boolean }): Promise<Nginx> {
    const lasting = 'proxy_http_version 1.1; proxy_set_header Connection "";';
    return Nginx.#open(
      `location /models/ { proxy_pass http://tensorwire/; ${keepAlive ? lasting : ""} }`,
      `upstream tensorwire { server ${new URL(serverUrl).host}; ${keepAlive ? "keepalive 8;" : ""} }`,
    );
  }

  /** A web server of the files in a folder. @param settings More of its configuration. */
  static serving(files: string, settings = ""): Promise<Nginx> {
    return Nginx.#open(`location /models/ { alias ${files}/; }`, settings);
  }

  static async #open(location: string, settings: string): Promise<Nginx> {
    const folder = mkdtempSync(join(tmpdir(), "tensorwire-nginx-"));
    const port = await freePort();
    const kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    for (const kind of kinds) mkdirSync(join(folder, kind));
    const configuration = `
      daemon off; master_process off; worker_processes 1;
      pid ${folder}/pid; error_log ${folder}/error.log;
      events { worker_connections 128; }
      http {
        log_format requests '$status $request_method $request_length $body_bytes_sent';
        access_log ${folder}/access.log requests;
        ${kinds.map((kind) => `${kind}_temp_path ${folder}/${kind};`).join("\n")}
        ${settings}
        server {
          listen 127.0.0.1:${port};
          ${location}
        }
      }`;
    writeFileSync(join(folder, "nginx.conf"), configuration);
    const nginx = new Nginx(folder, port);
    await nginx.start();
    return nginx;
  }

  get url(): string {
    return this.urlOf("m");
  }

  urlOf(name: string): string {
    return `http://127.0.0.1:${this.port}/models/${name}`;
  }

  /** Every request, as `status method bytes bytes`: those of the request, and those of the answer's body. */
  get requests(): string[] {
    return readFileSync(join(this.folder, "access.log"), "utf8").split("\n").filter(Boolean);
  }

  /** Bytes of all bodies that it has answered with. */
  get sentBytes(): number {
    return this.requests.reduce((sum, line) => sum + Number(line.split(" ")[3]), 0);
  }

  async start(): Promise<void> {
    const args = ["-p", this.folder, "-c", join(this.folder, "nginx.conf")];
    const child = spawn(PROGRAM!, args, { stdio: "ignore" });
    this.#process = child;
    while (!(await answers(this.port))) {
      if (child.exitCode !== null) throw new Error(readFileSync(join(this.folder, "error.log"), "utf8"));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  }

  async dispose(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}
