import type { IncomingMessage, ServerResponse } from "node:http";
import { quote, TensorwireError } from "@tensorwire/core";
import { peerOf } from "../channel/request-peer.js";
import type { MetricsHandler } from "../diagnostics/prometheus.js";
import type { Gate } from "../door/gate.js";
import { answerRefusal } from "./refusal-answer.js";
import type { Page } from "./web-place.js";

const DEFAULT_PATH = "/metrics";

/** The process' metrics as Prometheus reads them, for whoever the gate lets in: how much goes where is not for everybody. */
export class MetricsPage implements Page {
  private constructor(
    readonly path: string,
    private readonly gate: Gate,
    private readonly handler: MetricsHandler,
  ) {}

  /** @param at Its path, or `true` for the usual one. @throws TensorwireError `INVALID_ARGUMENT`. */
  static async open(at: string | true, gate: Gate): Promise<MetricsPage> {
    const path = at === true ? DEFAULT_PATH : at;
    if (!/^\/[\w.~/-]*$/.test(path)) {
      const message = `metrics is a path such as ${DEFAULT_PATH}, not ${quote(path)}`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    // Whoever has no such page need not load what makes it.
    const { metricsHandler } = await import("../diagnostics/prometheus.js");
    return new MetricsPage(path, gate, metricsHandler());
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    this.gate
      .identify(peerOf(request), gone.signal)
      .then(() => this.handler(request, response))
      .catch((error: unknown) => answerRefusal(response, error));
  }

  /** Counts no more. */
  close(): void {
    this.handler.stop();
  }
}
