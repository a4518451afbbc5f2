import { scalingVerdicts } from "./scaling-verdicts.js";
import type { ScalingData, ScalingSeries } from "./scaling-data.js";
import { renderScaling } from "./scaling-page.js";
import { serverSeries } from "./scaling-servers.js";
import { transferSeries } from "./scaling-transfers.js";
import type { Section } from "./section.js";

export const scaling: Section<ScalingData> = {
  id: "scaling",
  title: "Scaling",
  async measure(context) {
    const series: ScalingSeries[] = [];
    for await (const each of transferSeries(context)) series.push(each);
    for await (const each of serverSeries(context)) series.push(each);
    return { series };
  },
  render: renderScaling,
  verdicts: scalingVerdicts,
};
