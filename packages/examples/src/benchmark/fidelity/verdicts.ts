import { MOST_POINTS, verdicts } from "../../accuracy/verdict.js";
import type { Verdict } from "../section.js";
import { type FidelityData, recalled } from "./data.js";

/** Of the federation that comes out farthest from the exact one. */
export function fidelityVerdicts({ federated: { rounds, outcomes } }: FidelityData): Verdict[] {
  const farthest = verdicts(recalled(outcomes)).sort((a, b) => Math.abs(b.points) - Math.abs(a.points))[0];
  if (!farthest) return [];
  const { what, points, pass } = farthest;
  return [
    {
      what: `accuracy of federations after ${rounds} rounds, beside exact ones`,
      bar: `within ${MOST_POINTS} percentage point`,
      found: `${points.toFixed(2)} at most: ${what}`,
      pass,
    },
  ];
}
