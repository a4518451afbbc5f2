import { formatMiB, formatSize } from "../model/byte-size.js";
import { PEAK_BYTES } from "./end-to-end-verdicts.js";
import { figuresOf, MODEL_SIZE, type ScalingData, seriesOf } from "./scaling-data.js";
import type { Verdict } from "./section.js";

const MiB = 2 ** 20;
const DRIFT_BYTES = 16 * MiB;
const [LEAST_BYTES, MOST_BYTES] = [256 * MiB, 8192 * MiB];

/** Memory, whatever the model's size. */
export function scalingVerdicts(data: ScalingData): Verdict[] {
  const series = seriesOf(data, MODEL_SIZE);
  const figures = series ? figuresOf(series) : [];
  const sizes = figures.map(({ x }) => x);
  const whole = sizes.includes(LEAST_BYTES) && sizes.includes(MOST_BYTES);
  const range = sizes.length ? `${formatSize(Math.min(...sizes))} to ${formatSize(Math.max(...sizes))}` : "";
  const verdict = (what: string, bar: string, bytes: number, limit: number): Verdict => ({
    ...{ what, bar },
    found: `${formatMiB(bytes)}${whole ? "" : `, from ${range} only`}`,
    // A bar that is broken by a part is broken.
    pass: bytes > limit ? false : whole ? true : undefined,
  });
  return ["sender", "receiver"].flatMap((end) => {
    const peaks = figures.flatMap(({ ends }) =>
      ends.filter(({ name }) => name === end).map(({ peakBytes }) => peakBytes),
    );
    const what = `the ${end}'s peak RSS, models of ${formatSize(LEAST_BYTES)} to ${formatSize(MOST_BYTES)}, \`normfloat4\``;
    if (!peaks.length)
      return [
        { what, bar: `at most ${formatMiB(PEAK_BYTES)}`, found: "no run that ended well", pass: undefined },
      ];
    const most = Math.max(...peaks);
    return [
      verdict(`${what}: the highest`, `at most ${formatMiB(PEAK_BYTES)}`, most, PEAK_BYTES),
      verdict(
        `${what}: from the lowest to the highest`,
        `within ${formatMiB(DRIFT_BYTES)}`,
        most - Math.min(...peaks),
        DRIFT_BYTES,
      ),
    ];
  });
}
