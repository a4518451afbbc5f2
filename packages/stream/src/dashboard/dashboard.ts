import type { IncomingMessage, ServerResponse } from "node:http";
import { quote, TensorwireError } from "@tensorwire/core";
import type { MemoryBudget } from "../budget/memory-budget.js";
import { processBudget } from "../budget/process-budget.js";
import { isForeignHost, isForeignPage, peerOf } from "../channel/request-peer.js";
import { passwordOfHeader } from "../door/credential.js";
import type { Gate } from "../door/gate.js";
import { answerRefusal } from "../server/refusal-answer.js";
import type { Page } from "../server/web-place.js";
import { type PageFile, pageFiles } from "./page-files.js";
import { memoryFigures, snapshot } from "./snapshot.js";
import { Viewers } from "./viewers.js";
import { DashboardWatch } from "./watch.js";

const DEFAULT_PATH = "/dashboard";

/** Nothing from elsewhere, nothing written into the page, and no page around it. */
const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store",
};

/** Browsers ask their user for a name and a password, which is the token. */
const CHALLENGE = 'Basic realm="Tensorwire dashboard", charset="UTF-8"';

export interface DashboardOptions {
  /** Its path, or `true` for the usual one. */
  readonly at: string | true;
  readonly gate: Gate;
  readonly windowBytes: number;
  /** Of all transfers, where the server has one. */
  readonly budget: MemoryBudget | undefined;
}

/** A page on which the process' transfers are seen: under way, and over. */
export class Dashboard {
  readonly path: string;
  readonly pages: readonly Page[];
  readonly #gate: Gate;
  readonly #watch = new DashboardWatch();
  readonly #viewers: Viewers;

  private constructor(
    { gate, windowBytes, budget }: DashboardOptions,
    path: string,
    files: readonly PageFile[],
  ) {
    this.path = `${path}/`;
    this.#gate = gate;
    const budgets = { send: budget ?? processBudget("send"), receive: budget ?? processBudget("receive") };
    this.#viewers = new Viewers({
      look: () => this.#watch.look(),
      snapshot: (at, told) =>
        snapshot(this.#watch.state, { at, told, memory: memoryFigures(windowBytes, budgets) }),
    });
    this.pages = [
      this.#page(path, (response) => response.writeHead(308, { location: this.path }).end()),
      this.#page(`${this.path}events`, (response, request) => this.#viewers.add(request, response)),
      ...files.map(({ name, type, body }) =>
        this.#page(this.path + name, (response, { method }) => {
          response.writeHead(200, { "content-type": type, "content-length": body.length });
          response.end(method === "HEAD" ? undefined : body);
        }),
      ),
    ];
  }

  /** @throws TensorwireError `INVALID_ARGUMENT`. */
  static async open(options: DashboardOptions): Promise<Dashboard> {
    const path = options.at === true ? DEFAULT_PATH : options.at.replace(/\/$/, "");
    if (!/^(?:\/[\w.~-]+)+$/.test(path)) {
      const message = `dashboard is a path such as ${DEFAULT_PATH}, not ${quote(String(options.at))}`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    return new Dashboard(options, path, await pageFiles());
  }

  /** Lets the pages that are open go, and watches no more. */
  close(): void {
    this.#viewers.close();
    this.#watch.stop();
  }

  #page(path: string, show: (response: ServerResponse, request: IncomingMessage) => void): Page {
    const answer = (request: IncomingMessage, response: ServerResponse): void => {
      for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
      if (request.method !== "GET" && request.method !== "HEAD") {
        response.writeHead(405, { allow: "GET, HEAD", connection: "close" }).end();
        return;
      }
      this.#admit(request, response)
        .then(() => show(response, request))
        .catch((error: unknown) => answerRefusal(response, error, CHALLENGE));
    };
    return { path, answer };
  }

  /** @throws TensorwireError `UNAUTHORIZED`, `FORBIDDEN`, `SERVER_BUSY`. */
  async #admit(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (isForeignPage(request) || isForeignHost(request)) {
      throw new TensorwireError("FORBIDDEN", "this is not shown to pages of other sites");
    }
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const peer = peerOf(request);
    const credential = peer.credential ?? passwordOfHeader(request.headers.authorization);
    const principal = await this.#gate.identify({ ...peer, credential }, gone.signal);
    if (!principal || principal.watch) return;
    throw new TensorwireError("FORBIDDEN", "this credential gives no right to the dashboard (watch)");
  }
}
