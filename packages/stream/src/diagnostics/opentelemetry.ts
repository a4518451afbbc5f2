/**
 * Metrics and spans of all transfers of a process for OpenTelemetry: `docs/guides/observability.md`.
 *
 * @module @tensorwire/stream/opentelemetry
 */
import {
  context,
  type Histogram,
  type Meter as Instruments,
  type MeterProvider,
  metrics,
  type ObservableResult,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TracerProvider,
  trace,
} from "@opentelemetry/api";
import type { TransferSummary } from "../session/summary.js";
import { listenTo, type ObservedTransfer } from "./events.js";
import { Meter } from "./meter.js";
import {
  DURATION_BUCKETS,
  METRIC_NAMES,
  METRICS,
  type MetricName,
  type MetricOf,
  openTelemetryName,
} from "./metrics.js";
import { redacted } from "./redaction.js";

/** Where spans and metrics go. */
export interface OpenTelemetryOptions {
  /** Default: the global one. */
  readonly tracerProvider?: TracerProvider | undefined;
  /** Default: the one that is registered globally. */
  readonly meterProvider?: MeterProvider | undefined;
}

const SCOPE = "@tensorwire/stream";

/**
 * Tells OpenTelemetry of this process' transfers, from now on: a span for each, whose parent is what was active when it was
 * called, and metrics.
 * @returns What ends that.
 * @example
 * const stop = bridgeToOpenTelemetry();
 * await transferModel("model.safetensors", "traced.twire", { codec: "normfloat4" });
 * stop();
 */
export function bridgeToOpenTelemetry({
  tracerProvider = trace.getTracerProvider(),
  meterProvider = metrics.getMeterProvider(),
}: OpenTelemetryOptions = {}): () => void {
  const stopSpans = spans(tracerProvider);
  const stopMetrics = measure(meterProvider.getMeter(SCOPE));
  return () => {
    stopSpans();
    stopMetrics();
  };
}

function spans(provider: TracerProvider): () => void {
  const tracer = provider.getTracer(SCOPE);
  const open = new Map<ObservedTransfer, Span>();
  return listenTo({
    "tensorwire:transfer:start": (message) => {
      const { role } = message.transfer;
      const kind = role === "send" ? SpanKind.PRODUCER : SpanKind.CONSUMER;
      const attributes = { "tensorwire.role": role };
      open.set(
        message.transfer,
        tracer.startSpan(`tensorwire.${role}`, { kind, attributes }, context.active()),
      );
    },
    "tensorwire:transfer:resume": ({ transfer, sourceBytes }) => {
      const attributes = { "tensorwire.source_bytes": sourceBytes };
      open.get(transfer)?.addEvent("tensorwire.resume", attributes);
    },
    "tensorwire:transfer:retry": ({ transfer, attempt, delayMs, error }) => {
      const attributes = {
        "tensorwire.attempt": attempt,
        "tensorwire.delay_ms": delayMs,
        "error.type": error.code,
      };
      open.get(transfer)?.addEvent("tensorwire.retry", attributes);
    },
    "tensorwire:transfer:end": ({ transfer, error, summary }) => {
      const span = open.get(transfer);
      if (!span) return;
      open.delete(transfer);
      if (transfer.channel !== undefined) span.setAttribute("tensorwire.channel", transfer.channel);
      span.setAttribute("tensorwire.codec", codecsOf(transfer));
      if (summary) span.setAttributes(figures(summary));
      if (error) {
        span.setAttribute("error.type", error.code);
        span.setStatus({ code: SpanStatusCode.ERROR, message: redacted(error.message) });
      }
      span.end();
    },
  });
}

const codecsOf = ({ manifest }: ObservedTransfer): string[] => [
  ...new Set(manifest?.tensors.map(({ codec }) => codec.name)),
];

function figures(summary: TransferSummary): Record<string, number | string | boolean> {
  return {
    "tensorwire.source_bytes": summary.sourceBytes,
    "tensorwire.wire_bytes": summary.wireBytes,
    "tensorwire.chunks": summary.chunks,
    "tensorwire.resumed_bytes": summary.resumedBytes,
    "tensorwire.digest": summary.digest,
    "tensorwire.confirmed": summary.confirmed,
  };
}

const UNITS = { bytes: "By", seconds: "s" };

function measure(instruments: Instruments): () => void {
  const recorders = new Map<MetricName, (value: number, labels: object) => void>();
  const meter = new Meter((name, value, labels) => recorders.get(name)?.(value, labels));
  const observed: (() => void)[] = [];
  for (const name of METRIC_NAMES) {
    const { kind, unit, help: description } = METRICS[name];
    const options = { description, ...(unit && { unit: UNITS[unit] }) };
    const named = openTelemetryName(name);
    if (kind === "counter") {
      const counter = instruments.createCounter(named, options);
      recorders.set(name, (value, labels) => counter.add(value, { ...labels }));
    } else if (kind === "histogram") {
      const advice = { explicitBucketBoundaries: DURATION_BUCKETS };
      const histogram: Histogram = instruments.createHistogram(named, { ...options, advice });
      recorders.set(name, (value, labels) => histogram.record(value, { ...labels }));
    } else {
      const gauge = instruments.createObservableGauge(named, options);
      const look = (result: ObservableResult): void => {
        for (const [value, labels] of meter.read(name as MetricOf<"gauge">))
          result.observe(value, { ...labels });
      };
      gauge.addCallback(look);
      observed.push(() => gauge.removeCallback(look));
    }
  }
  return () => {
    meter.stop();
    for (const stop of observed) stop();
  };
}
