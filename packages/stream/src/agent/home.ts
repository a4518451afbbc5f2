import { quote, TensorwireError } from "@tensorwire/core";
import { shownUrl } from "../channel/address.js";
import { dialFault } from "../channel/dial-fault.js";
import { HttpLine } from "../channel/http-line.js";
import { statusError } from "../channel/refusal-status.js";
import type { DialOptions } from "../channel/websocket.js";
import { DEFAULT_PREFIX, pathOfName } from "../server/model-path.js";

/** Where an agent that is a home is asked to free a model. */
export const FREE_PREFIX = "/agent/v1/models/";

const FREE_TIMEOUT_MS = 10_000;

/** Another agent, which has the models of this one. */
export class Home {
  readonly #at: URL;

  /** @throws TensorwireError `INVALID_ARGUMENT`. */
  constructor(
    url: string,
    readonly dial: Pick<DialOptions, "tls" | "token">,
  ) {
    const at = /^(?:ws|http)s?:\/\//i.test(url) && URL.canParse(url) ? new URL(url) : undefined;
    if (at?.pathname !== "/" || at.search || at.hash || at.username || at.password) {
      const message = `${quote(shownUrl(url))} cannot be a home: that is ws://host:port, or the same of wss:, http: or https:`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    this.#at = at;
  }

  /** For people. */
  get label(): string {
    return `${this.#at.protocol}//${this.#at.host}`;
  }

  /** Of one model. */
  urlOf(name: string, id: string, query: Readonly<Record<string, string>> = {}): string {
    const url = new URL(this.#at);
    url.pathname = pathOfName(`${name}/${id}`, DEFAULT_PREFIX);
    url.search = new URLSearchParams(query).toString();
    return url.href;
  }

  /** Whether a URL leads to the same scheme, host and port: what this agent shows to its home it shows nobody else. */
  isAt(url: string): boolean {
    const other = new URL(url);
    return other.protocol === this.#at.protocol && other.host === this.#at.host;
  }

  #forbidden(name: string): TensorwireError {
    const message =
      `${this.label} lets this agent not free ${quote(name)}: others have published it, and its token gives no right to free it; or none to ` +
      "publish under that name any more";
    return new TensorwireError("FORBIDDEN", message);
  }

  /** Has the home free a model. @returns whether it had it. @throws TensorwireError of the channel, and of the door. */
  async free(name: string, id: string): Promise<boolean> {
    const url = new URL(this.#at.href.replace(/^ws/i, "http"));
    url.pathname = pathOfName(`${name}/${id}`, FREE_PREFIX);
    const line = new HttpLine(url, this.dial, 1);
    try {
      const signal = AbortSignal.timeout(FREE_TIMEOUT_MS);
      const { statusCode, body } = await line.ask(url, { method: "DELETE", signal });
      body.on("error", () => {}).resume();
      if (statusCode === 403) throw this.#forbidden(name);
      if (statusCode !== 204 && statusCode !== 404) throw statusError(url.href, statusCode);
      return statusCode === 204;
    } catch (cause) {
      if (cause instanceof TensorwireError) throw cause;
      throw dialFault(this.label, cause);
    } finally {
      line.close();
    }
  }
}
