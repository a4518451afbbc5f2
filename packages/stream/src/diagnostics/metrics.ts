/** What is measured of a process' transfers. Every label has a bounded number of values, none of them a peer's words. */
export interface Metric {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly unit: "bytes" | "seconds" | undefined;
  readonly help: string;
  readonly labels: readonly Label[];
}

/** `role` is send or receive; `outcome` a code of an error, or OK; `code` the code of a refusal. */
export type Label = "role" | "outcome" | "code";
export type Labels = { readonly [name in Label]?: string };

const metric = <const Kind extends Metric["kind"]>(
  kind: Kind,
  unit: Metric["unit"],
  labels: readonly Label[],
  help: string,
): Metric & { readonly kind: Kind } => ({ kind, unit, labels, help });

export const METRICS = {
  transfers: metric(
    "counter",
    undefined,
    ["role", "outcome"],
    "Transfers that ended, by OK or an error's code",
  ),
  transferDuration: metric("histogram", "seconds", ["role"], "How long transfers took, retries included"),
  transfersActive: metric("gauge", undefined, ["role"], "Transfers under way"),
  sourceBytes: metric("counter", "bytes", ["role"], "Bytes of models that were sent, or verified"),
  wireBytes: metric("counter", "bytes", ["role"], "Bytes of chunks as they travelled"),
  resumedBytes: metric(
    "counter",
    "bytes",
    ["role"],
    "Bytes of models that did not travel again after an interruption",
  ),
  chunks: metric("counter", undefined, ["role"], "Chunks that were sent, or verified"),
  checkpoints: metric("counter", undefined, ["role"], "Times at which what had arrived became durable"),
  retries: metric("counter", undefined, ["role"], "Attempts after the first"),
  inFlight: metric("gauge", "bytes", ["role"], "Bytes of models that were sent and not finished with"),
  queued: metric("gauge", "bytes", ["role"], "Bytes of models that wait in this process"),
  connections: metric("counter", undefined, [], "Connections that were opened"),
  connectionsOpen: metric("gauge", undefined, [], "Connections that are open"),
  refusals: metric("counter", undefined, ["code"], "Peers that a server turned away"),
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;
export const METRIC_NAMES = Object.keys(METRICS) as MetricName[];

/** Names of one kind. */
export type MetricOf<Kind extends Metric["kind"]> = {
  [Name in MetricName]: (typeof METRICS)[Name]["kind"] extends Kind ? Name : never;
}[MetricName];

/** Bounds of a duration's buckets, in seconds: from a small model on loopback to a night. */
export const DURATION_BUCKETS = [0.05, 0.2, 1, 5, 20, 60, 300, 1200, 3600, 14_400, 43_200];

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** As OpenTelemetry spells it: `tensorwire.source_bytes`. */
export const openTelemetryName = (name: MetricName): string => `tensorwire.${snake(name)}`;

/** As Prometheus does, with the unit, and `total` for what only grows: `tensorwire_source_bytes_total`. */
export function prometheusName(name: MetricName): string {
  const { kind, unit } = METRICS[name];
  const own = snake(name);
  const named = unit && !own.endsWith(unit) ? `${own}_${unit}` : own;
  return `tensorwire_${named}${kind === "counter" ? "_total" : ""}`;
}
