/** A tail call graph for Graphviz, and as a picture of its own: programs in columns, by the tail calls it takes to get there. */
import type { TailCallGraph } from '../core.ts';

interface Edge {
  readonly from: string;
  readonly to: string;
  /** Slots that lead there, in the order of the sites. */
  readonly labels: string[];
}

/** One edge for each pair of programs, and one from each program to each range of slots it may find empty. */
function edgesOf({ sites }: TailCallGraph): { edges: Edge[]; empty: Map<string, string> } {
  const edges = new Map<string, Edge>();
  const empty = new Map<string, string>();
  const add = (from: string, to: string, label: string) => {
    const edge = edges.get(`${from}\n${to}`) ?? { from, to, labels: [] };
    edges.set(`${from}\n${to}`, edge);
    if (label !== '' && !edge.labels.includes(label)) edge.labels.push(label);
  };
  for (const site of sites) {
    for (const { map, index, program } of site.targets) add(site.program, program, `${map}[${index}]`);
    for (const { map, from, to } of site.empty) {
      const label = `${map}[${from === to ? from : `${from}..${to}`}]`;
      // No program's name has a space.
      empty.set(`empty ${label}`, label);
      add(site.program, `empty ${label}`, '');
    }
  }
  return { edges: [...edges.values()], empty };
}

const quoted = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`;

export function graphDot(graph: TailCallGraph): string {
  const { edges, empty } = edgesOf(graph);
  const lines = ['digraph tail_calls {', '  rankdir=LR;', '  node [shape=box];'];
  for (const { name, entry, reachable } of graph.programs) {
    const style = entry ? ' [penwidth=2]' : reachable ? '' : ' [style=dotted]';
    lines.push(`  ${quoted(name)}${style};`);
  }
  for (const [id, label] of empty) {
    lines.push(`  ${quoted(id)} [label=${quoted(`${label} empty`)}, style=dashed];`);
  }
  for (const { from, to, labels } of edges) {
    lines.push(
      `  ${quoted(from)} -> ${quoted(to)}${labels.length > 0 ? ` [label=${quoted(labels.join(', '))}]` : ''};`,
    );
  }
  return `${[...lines, '}'].join('\n')}\n`;
}

const CHARACTER = 7.3;
const BOX_HEIGHT = 30;
const ROW = 52;
const GAP = 150;
const MARGIN = 24;

interface Box {
  readonly id: string;
  readonly label: string;
  readonly style: string;
  column: number;
  row: number;
  x: number;
  width: number;
}

const escaped = (text: string) =>
  text.replace(/[&<>"]/g, character => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[character]!);

/** Layered: each program one column right of the last that leads to it, circles left aside; rows by the mean of those. */
export function graphSvg(graph: TailCallGraph): string {
  const { edges, empty } = edgesOf(graph);
  const boxes = new Map<string, Box>();
  const add = (id: string, label: string, style: string) =>
    boxes.set(id, { id, label, style, column: 0, row: 0, x: 0, width: label.length * CHARACTER + 20 });
  for (const { name, entry, reachable } of graph.programs) {
    add(name, name, entry ? ' stroke-width="2.5"' : reachable ? '' : ' stroke-dasharray="2 3"');
  }
  for (const [id, label] of empty) add(id, `${label} empty`, ' stroke-dasharray="6 4"');
  const entries = graph.programs.filter(({ entry }) => entry).map(({ name }) => name);
  const forward = assignColumns(boxes, edges, [...entries, ...boxes.keys()]);
  const columns: Box[][] = [];
  for (const box of boxes.values()) (columns[box.column] ??= []).push(box);
  for (const [number, column] of columns.entries()) {
    if (number > 0) sortByParents(column, forward, boxes);
    for (const [row, box] of column.entries()) box.row = row;
  }
  let x = MARGIN;
  for (const column of columns) {
    for (const box of column) box.x = x;
    x += Math.max(...column.map(({ width }) => width)) + GAP;
  }
  const rows = Math.max(1, ...columns.map(({ length }) => length));
  const height = rows * ROW + 2 * MARGIN;
  const y = ({ row, column }: Box) => MARGIN + (row + (rows - columns[column]!.length) / 2) * ROW + BOX_HEIGHT / 2 + 11;
  const taken: Rectangle[] = [...boxes.values()].map(box => ({
    x: box.x,
    y: y(box) - BOX_HEIGHT / 2,
    width: box.width,
    height: BOX_HEIGHT,
  }));
  const parts = edges.map(({ from, to, labels }) => {
    const [a, b] = [boxes.get(from)!, boxes.get(to)!];
    const [x1, y1, x2, y2] = [a.x + a.width, y(a), b.x, y(b)];
    const title = labels.length > 0 ? `<title>${escaped(labels.join(', '))}</title>` : '';
    const back = b.column <= a.column;
    const path = back
      ? `M${a.x + a.width / 2},${y1 - BOX_HEIGHT / 2} C${a.x + a.width / 2},${y1 - 46} ${b.x + b.width / 2 + (a === b ? 40 : 0)},${y2 - 46} ${b.x + b.width / 2 + (a === b ? 16 : 0)},${y2 - BOX_HEIGHT / 2}`
      : `M${x1},${y1} C${x1 + GAP / 2},${y1} ${x2 - GAP / 2},${y2} ${x2},${y2}`;
    let text = '';
    if (labels.length > 0 && !back) {
      const label = labels.length > 2 ? `${labels[0]}, +${labels.length - 1}` : labels.join(', ');
      const at = placeLabel(
        label,
        t => ({ x: bezier(x1, x1 + GAP / 2, x2 - GAP / 2, x2, t), y: bezier(y1, y1, y2, y2, t) }),
        taken,
      );
      text = `<text x="${round(at.x)}" y="${round(at.y)}" class="slot">${escaped(label)}</text>`;
    }
    return `<g><path d="${path.replace(/-?\d+\.\d+/g, number => String(round(Number(number))))}" marker-end="url(#arrow)"/>${title}${text}</g>`;
  });
  for (const box of boxes.values()) {
    const top = round(y(box) - BOX_HEIGHT / 2);
    parts.push(
      `<g><rect x="${round(box.x)}" y="${top}" width="${round(box.width)}" height="${BOX_HEIGHT}" rx="4"${box.style}/><text x="${round(box.x + box.width / 2)}" y="${round(y(box) + 4)}" class="name">${escaped(box.label)}</text></g>`,
    );
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${round(x - GAP + MARGIN)}" height="${height}" font-family="monospace" font-size="12">
<style>rect{fill:#fff;stroke:#345}path{fill:none;stroke:#789}.name{text-anchor:middle}.slot{text-anchor:middle;font-size:9px;fill:#567}</style>
<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" style="fill:#789"/></marker></defs>
<rect width="100%" height="100%" style="stroke:none"/>
${parts.join('\n')}
</svg>
`;
}

interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const SLOT_CHARACTER = 5.5;
const SLOT_HEIGHT = 10;
/** Farther from its edge a label says nothing: rather it covers another one. */
const FARTHEST_ASIDE = 40;

function bezier(a: number, b: number, c: number, d: number, t: number): number {
  const u = 1 - t;
  return u * u * u * a + 3 * u * u * t * b + 3 * u * t * t * c + t * t * t * d;
}

/**
 * Middle and base line of an edge's label: on the edge, as near to its middle as there is room, or else above or below it.
 * @param taken what must not be covered; the label is added
 */
function placeLabel(
  label: string,
  edge: (t: number) => { x: number; y: number },
  taken: Rectangle[],
): { x: number; y: number } {
  const width = label.length * SLOT_CHARACTER;
  const rectangle = (x: number, y: number) => ({
    x: x - width / 2,
    y: y - SLOT_HEIGHT,
    width,
    height: SLOT_HEIGHT + 2,
  });
  const free = (one: Rectangle) =>
    taken.every(
      other =>
        one.x >= other.x + other.width ||
        other.x >= one.x + one.width ||
        one.y >= other.y + other.height ||
        other.y >= one.y + one.height,
    );
  for (let aside = 0; aside <= FARTHEST_ASIDE; aside += 2) {
    for (const t of [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8]) {
      const { x, y } = edge(t);
      for (const each of aside === 0 ? [y - 4] : [y - 4 - aside, y - 4 + aside]) {
        const place = rectangle(x, each);
        if (!free(place)) continue;
        taken.push(place);
        return { x, y: each };
      }
    }
  }
  const { x, y } = edge(0.5);
  return { x, y: y - 4 };
}

const round = (value: number) => Math.round(value * 10) / 10;

/** @returns the edges that lead to the right: all but those that close a circle */
function assignColumns(boxes: ReadonlyMap<string, Box>, edges: readonly Edge[], order: readonly string[]): Edge[] {
  const out = new Map<string, Edge[]>([...boxes.keys()].map(id => [id, []]));
  for (const edge of edges) out.get(edge.from)!.push(edge);
  const state = new Map<string, 'open' | 'done'>();
  const forward: Edge[] = [];
  const finished: string[] = [];
  for (const start of order) {
    if (state.has(start)) continue;
    const stack = [{ id: start, next: 0 }];
    state.set(start, 'open');
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const edge = out.get(top.id)![top.next++];
      if (edge === undefined) {
        state.set(top.id, 'done');
        finished.push(top.id);
        stack.pop();
        continue;
      }
      if (state.get(edge.to) === 'open') continue;
      forward.push(edge);
      if (state.has(edge.to)) continue;
      state.set(edge.to, 'open');
      stack.push({ id: edge.to, next: 0 });
    }
  }
  const kept = new Set(forward);
  for (const id of finished.reverse()) {
    for (const edge of out.get(id)!) {
      if (!kept.has(edge)) continue;
      const target = boxes.get(edge.to)!;
      target.column = Math.max(target.column, boxes.get(id)!.column + 1);
    }
  }
  return forward;
}

function sortByParents(column: Box[], edges: readonly Edge[], boxes: ReadonlyMap<string, Box>): void {
  const mean = new Map(
    column.map(box => {
      const parents = edges.filter(({ to }) => to === box.id).map(({ from }) => boxes.get(from)!.row);
      return [box, parents.length === 0 ? 0 : parents.reduce((a, b) => a + b, 0) / parents.length];
    }),
  );
  column.sort((a, b) => mean.get(a)! - mean.get(b)!);
}
