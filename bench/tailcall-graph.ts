/**
 * The graph of docs/tail-calls.md: ns per hop against the number of distinct programs in a chain.
 *
 *     npm run --silent bench -- tailcall --json > hops.json
 *     npx tsx bench/tailcall-graph.ts hops.json > docs/tail-call-hops.svg
 */
import { readFileSync } from 'node:fs';

const WIDTH = 795;
const HEIGHT = 430;
const LEFT = 55;
const RIGHT = 225;
const TOP = 20;
const BOTTOM = 45;
/** Both axes are logarithmic. */
const DIVERSITY = { min: 1, max: 33, ticks: [1, 2, 4, 8, 16, 33] };
const NANOSECONDS = { min: 0.1, max: 50, ticks: [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50] };

/** Colour and dashes: one colour for each maker, dashes for direct sites. */
const STYLES: Readonly<Record<string, string>> = {
  'kernel indirect': '#888888',
  'kernel direct': '#888888" stroke-dasharray="6 4',
  'baseline static': '#d95f02',
  'baseline direct': '#d95f02" stroke-dasharray="6 4',
  'cached static': '#7570b3',
  'cached direct': '#7570b3" stroke-dasharray="6 4',
  'fast static': '#1b9e77',
  'fast direct': '#1b9e77" stroke-dasharray="6 4',
  'fast static, slots tested': '#66a61e',
  'floor static': '#111111',
  'floor direct': '#111111" stroke-dasharray="6 4',
};

interface Row {
  readonly variant: string;
  readonly pattern: string;
  readonly ns: number;
}

function scale(value: number, axis: { min: number; max: number }, from: number, to: number): number {
  const share = Math.log(value / axis.min) / Math.log(axis.max / axis.min);
  return Number((from + share * (to - from)).toFixed(1));
}
const x = (programs: number): number => scale(programs, DIVERSITY, LEFT, WIDTH - RIGHT);
const y = (ns: number): number => scale(Math.max(ns, NANOSECONDS.min), NANOSECONDS, HEIGHT - BOTTOM, TOP);

function graph(rows: readonly Row[]): string {
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    '<title>Nanoseconds per tail call against the number of distinct programs in the chain</title>',
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
  ];
  for (const tick of NANOSECONDS.ticks) {
    out.push(
      `<path d="M${LEFT} ${y(tick)}H${WIDTH - RIGHT}" stroke="#dddddd"/>`,
      `<text x="${LEFT - 8}" y="${y(tick) + 4}" text-anchor="end">${tick}</text>`,
    );
  }
  for (const tick of DIVERSITY.ticks) {
    out.push(`<text x="${x(tick)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${tick}</text>`);
  }
  out.push(
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">distinct programs in a chain of 33 hops</text>`,
    `<text transform="translate(14 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">ns per hop</text>`,
  );
  const ends: { variant: string; style: string; at: number }[] = [];
  for (const [variant, style] of Object.entries(STYLES)) {
    const points = rows
      .filter(row => row.variant === variant && row.pattern.startsWith('T='))
      .map(({ pattern, ns }) => ({ programs: Number(pattern.slice(2)), ns }));
    const last = points.at(-1);
    if (last === undefined) continue;
    const path = points.map(({ programs, ns }, i) => `${i === 0 ? 'M' : 'L'}${x(programs)} ${y(ns)}`).join('');
    out.push(`<path d="${path}" fill="none" stroke="${style}" stroke-width="2"/>`);
    if (points.length === 1) out.push(`<circle cx="${x(last.programs)}" cy="${y(last.ns)}" r="3" fill="${style}"/>`);
    ends.push({ variant: `${variant} ${last.ns.toFixed(2)}`, style, at: y(last.ns) });
  }
  // Names at the right ends, pushed apart where they would overlap.
  let lowest = 0;
  for (const { variant, style, at } of ends.sort((a, b) => a.at - b.at)) {
    lowest = Math.max(at + 4, lowest + 14);
    const label = WIDTH - RIGHT + 12;
    out.push(
      `<path d="M${label} ${lowest - 4}h18" stroke="${style}" stroke-width="2"/>`,
      `<text x="${label + 24}" y="${lowest}">${variant}</text>`,
    );
  }
  return [...out, '</svg>'].join('\n');
}

const { rows } = JSON.parse(readFileSync(process.argv[2] ?? 0, 'utf8')) as { rows: Row[] };
console.log(graph(rows));
