/** What `switchyard run` shows of tail calls that fell through. */
import type { LoadedObject, TailCallMissCause } from '../core.ts';
import { bold, column, dim } from './terminal.ts';

/** In JSON: one for each program, site, index and cause. */
export interface MissRow {
  readonly program: string;
  readonly insn: number;
  readonly file: string | null;
  readonly line: number | null;
  readonly source: string | null;
  /** The prog array; null where it was not told apart from others. */
  readonly map: string | null;
  /** Null for many different ones together. */
  readonly index: number | null;
  readonly cause: TailCallMissCause;
  readonly count: number;
}

export function tailCallMisses({ programs }: LoadedObject): MissRow[] {
  return [...programs.values()].flatMap(program =>
    program.tailCallMisses().map(({ insn, line, map, index, cause, count }) => ({
      program: program.name,
      insn,
      file: line?.file ?? null,
      line: line?.line ?? null,
      source: line?.text.trim() ?? null,
      map: map ?? null,
      index: index ?? null,
      cause,
      count,
    })),
  );
}

/** Rows that differ in nothing but their counts become one. */
export function addMisses(rows: readonly MissRow[], more: readonly MissRow[]): MissRow[] {
  const sums = new Map<string, MissRow>();
  for (const row of [...rows, ...more]) {
    const key = JSON.stringify({ ...row, count: 0 });
    sums.set(key, { ...row, count: row.count + (sums.get(key)?.count ?? 0) });
  }
  return [...sums.values()];
}

/** Rows shown; the rest is in the JSON. */
const SHOWN = 20;

export function missText(rows: readonly MissRow[]): string[] {
  if (rows.length === 0) return [];
  const sorted = [...rows].sort((a, b) => b.count - a.count);
  const cells = sorted
    .slice(0, SHOWN)
    .map(row => [
      String(row.count),
      row.cause,
      `${row.map ?? '*'}[${row.index ?? '*'}]`,
      row.program,
      `insn ${row.insn}`,
      row.line === null ? '' : dim(`${row.file}:${row.line} ${row.source}`),
    ]);
  const widths = cells[0]!.map((_, i) => Math.max(...cells.map(row => row[i]!.length)));
  const lines = cells.map(row => `  ${row.map((cell, i) => column(cell, widths[i]!)).join('  ')}`.trimEnd());
  const rest = sorted.slice(SHOWN);
  const more = rest.reduce((sum, { count }) => sum + count, 0);
  return [
    bold('tail calls that fell through'),
    ...lines,
    ...(rest.length > 0 ? [`  ... ${more} more in ${rest.length} rows; --json shows them`] : []),
  ];
}
