import { scaling } from "./scaling.js";
import { endToEnd } from "./end-to-end.js";
import type { Section } from "./section.js";

/** In the order of the page. */
export const SECTIONS: readonly Section[] = [endToEnd, scaling];
