/**
 * Metrics of all transfers of a process for Prometheus: `docs/guides/observability.md`.
 *
 * @module @tensorwire/stream/prometheus
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { Meter } from "./meter.js";
import {
  DURATION_BUCKETS,
  METRIC_NAMES,
  METRICS,
  type MetricName,
  type MetricOf,
  prometheusName,
} from "./metrics.js";

/** Answers a scrape: mount it where Prometheus looks, usually at `/metrics`. */
export interface MetricsHandler {
  (request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** For metrics of your own beside these, and for `collectDefaultMetrics`. */
  readonly registry: Registry;
  /** Counts no more. */
  stop(): void;
}

/**
 * The metrics of this process' transfers, of all servers and calls in it, from now on.
 * @param registry Where they are registered. Default: one of their own.
 * @example
 * createServer(metricsHandler()).listen(9464);
 */
export function metricsHandler(registry = new Registry()): MetricsHandler {
  const counters = new Map<MetricName, Counter>();
  const histograms = new Map<MetricName, Histogram>();
  const meter = new Meter((name, value, labels) => {
    counters.get(name)?.inc(labels, value);
    histograms.get(name)?.observe(labels, value);
  });
  for (const name of METRIC_NAMES) {
    const { kind, help, labels } = METRICS[name];
    const metric = { name: prometheusName(name), help, labelNames: [...labels], registers: [registry] };
    if (kind === "counter") counters.set(name, new Counter(metric));
    else if (kind === "histogram")
      histograms.set(name, new Histogram({ ...metric, buckets: DURATION_BUCKETS }));
    else new Gauge({ ...metric, collect: collector(meter, name as MetricOf<"gauge">) });
  }
  const handler = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" }).end();
      return;
    }
    const text = await registry.metrics();
    response.writeHead(200, { "content-type": registry.contentType, "cache-control": "no-store" });
    response.end(request.method === "HEAD" ? undefined : text);
  };
  return Object.assign(handler, { registry, stop: meter.stop });
}

/** Looks when somebody asks: nothing is counted for it in between. */
function collector(meter: Meter, name: MetricOf<"gauge">): (this: Gauge) => void {
  return function () {
    for (const [value, labels] of meter.read(name)) this.set(labels, value);
  };
}
