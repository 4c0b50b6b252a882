/** What `switchyard run` shows of tail calls: those that fell through and, where asked for, those that succeeded. */
import type { LoadedObject, TailCallHit, TailCallMissCause } from '../core.ts';
import { bold, column, dim } from './terminal.ts';

/** In JSON: one for each program, site and slot. */
export interface HitRow {
  readonly program: string;
  readonly insn: number;
  readonly file: string | null;
  readonly line: number | null;
  readonly source: string | null;
  /** The prog array; null where it was not told apart from others. */
  readonly map: string | null;
  /** Null for many different ones together. */
  readonly index: number | null;
  readonly count: number;
}

/** One for each program, site, index and cause. */
export interface MissRow extends HitRow {
  readonly cause: TailCallMissCause;
}

function row(program: string, { insn, line, map, index, count }: TailCallHit): HitRow {
  return {
    program,
    insn,
    file: line?.file ?? null,
    line: line?.line ?? null,
    source: line?.text.trim() ?? null,
    map: map ?? null,
    index: index ?? null,
    count,
  };
}

export function tailCallMisses({ programs }: LoadedObject): MissRow[] {
  return [...programs.values()].flatMap(program =>
    program.tailCallMisses().map(miss => ({ ...row(program.name, miss), cause: miss.cause })),
  );
}

/** Empty unless the object was loaded with `countHits`. */
export function tailCallHits({ programs }: LoadedObject): HitRow[] {
  return [...programs.values()].flatMap(program => program.tailCallHits().map(hit => row(program.name, hit)));
}

/** Rows that differ in nothing but their counts become one. */
export function addRows<Row extends HitRow>(rows: readonly Row[], more: readonly Row[]): Row[] {
  const sums = new Map<string, Row>();
  for (const each of [...rows, ...more]) {
    const key = JSON.stringify({ ...each, count: 0 });
    sums.set(key, { ...each, count: each.count + (sums.get(key)?.count ?? 0) });
  }
  return [...sums.values()];
}

/** Rows shown; the rest is in the JSON. */
const SHOWN = 20;

export function missText(rows: readonly MissRow[]): string[] {
  return table('tail calls that fell through', rows, ({ cause }) => [cause]);
}

export function hitText(rows: readonly HitRow[]): string[] {
  return table('tail calls that succeeded', rows, () => []);
}

function table<Row extends HitRow>(title: string, rows: readonly Row[], more: (row: Row) => string[]): string[] {
  if (rows.length === 0) return [];
  const sorted = [...rows].sort((a, b) => b.count - a.count);
  const cells = sorted
    .slice(0, SHOWN)
    .map(each => [
      String(each.count),
      ...more(each),
      `${each.map ?? '*'}[${each.index ?? '*'}]`,
      each.program,
      `insn ${each.insn}`,
      each.line === null ? '' : dim(`${each.file}:${each.line} ${each.source}`),
    ]);
  const widths = cells[0]!.map((_, i) => Math.max(...cells.map(line => line[i]!.length)));
  const lines = cells.map(line => `  ${line.map((cell, i) => column(cell, widths[i]!)).join('  ')}`.trimEnd());
  const rest = sorted.slice(SHOWN);
  const count = rest.reduce((sum, each) => sum + each.count, 0);
  return [
    bold(title),
    ...lines,
    ...(rest.length > 0 ? [`  ... ${count} more in ${rest.length} rows; --json shows them`] : []),
  ];
}
