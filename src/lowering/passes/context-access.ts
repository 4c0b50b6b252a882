/**
 * Pass 2: context access.
 *
 * Reads: facts.memoryKind, facts.contextOffset. Writes: offsets (and, for packet pointers, sizes) of loads and stores
 * through the context pointer.
 * Assumes: the verifier has refused fields and sizes that the program type may not use.
 * Throws: LoweringError `context_field` for a field that Switchyard does not have, `bad_facts` for an access that is no
 * load or store.
 *
 * Programs are compiled against the uapi structures (`xdp_md`, `__sk_buff`), in which the packet pointers are
 * 32-bit fields. Behind the pointer lies XdpContext or SkbContext of memory/layout.ts. Loads of the pointers become 8-byte loads;
 * every other skb field lies in a copy of `__sk_buff`, so that narrow and wide accesses only move. Some fields are 16
 * bits wide in the kernel's `sk_buff` though 32 in `__sk_buff`: what is stored there loses its upper half. (A 16-bit load
 * of such a field's upper half gives 0 here, as the uapi has it; Linux 6.18 gives the lower half.)
 */
import type { Instruction, Load, Size, Store } from '../../isa/instruction.ts';
import { SkBuff, SkbContext, XdpContext, XdpMd } from '../../memory/layout.ts';
import type { ProgramType } from '../../object/spec.ts';
import { jumpIf } from '../build.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import { type Edit, rewrite } from '../rewrite.ts';

/** Where a field lies in the internal context. `size`: of the access, where it is not the program's. */
interface Place {
  readonly offset: number;
  readonly size?: Size;
}

export function rewriteContextAccess(draft: Draft, input: LoweringInput): Draft {
  const edits = new Map<number, Edit>();
  draft.insns.forEach((insn, slot) => {
    const origin = draft.origin[slot]!;
    if (input.facts.memoryKind.get(origin) !== 'context') return;
    const field = input.facts.contextOffset.get(origin);
    if (field === undefined || (insn.kind !== 'load' && insn.kind !== 'store')) {
      // The second slot of nothing: facts are by slot of a memory instruction.
      throw new LoweringError(
        'bad_facts',
        `${input.name}: instruction ${origin} (${insn.kind}) accesses the context, but ${field === undefined ? 'its offset is unknown' : 'only loads and stores can'}`,
        { program: input.name, insn: origin },
      );
    }
    edits.set(slot, { code: codeOf(moveAccess(insn, field, origin, input), field, input.type) });
  });
  return rewrite(draft, edits);
}

/** A store of this or more to queue_mapping is ignored: it would mean "no queue". */
const NO_QUEUE_MAPPING = 0xffff;
const HALFWORD_FIELDS: readonly number[] = [SkBuff.tcIndex, SkBuff.tcClassid, SkBuff.queueMapping];

/** The access, already moved, with what its field asks for besides. */
function codeOf(insn: Load | Store, field: number, type: ProgramType): readonly Instruction[] {
  if (type === 'xdp' || insn.kind === 'load' || !HALFWORD_FIELDS.includes(field)) return [insn];
  const half: Store = { ...insn, size: 2 };
  if (field !== SkBuff.queueMapping) return [half];
  // As the kernel has it: the immediate is compared as signed, the register as unsigned.
  if (insn.src === undefined) return insn.imm >= NO_QUEUE_MAPPING ? [] : [half];
  return [jumpIf('ge', insn.src, NO_QUEUE_MAPPING, 1), half];
}

function moveAccess(insn: Load | Store, field: number, origin: number, input: LoweringInput): Load | Store {
  const place = placeOf(input.type, field, insn);
  if (place === undefined) {
    throw new LoweringError(
      'context_field',
      `${input.name}: instruction ${origin} accesses ${fieldName(input.type, field)} of the context with ${insn.size} bytes, which Switchyard does not provide`,
      { program: input.name, insn: origin, field: fieldName(input.type, field), offset: field, size: insn.size },
    );
  }
  // The base register may itself point into the context: move by the difference.
  const offset = insn.offset + place.offset - field;
  return { ...insn, offset, size: place.size ?? insn.size };
}

function placeOf(type: ProgramType, field: number, insn: Load | Store): Place | undefined {
  if (type === 'raw') return undefined;
  return type === 'xdp' ? placeInXdp(field, insn) : placeInSkb(field, insn);
}

function placeInXdp(field: number, insn: Load | Store): Place | undefined {
  if (insn.kind !== 'load' || insn.size !== 4) return undefined;
  switch (field) {
    case XdpMd.data:
      return pointer(XdpContext.data, insn);
    case XdpMd.dataEnd:
      return pointer(XdpContext.dataEnd, insn);
    case XdpMd.dataMeta:
      return pointer(XdpContext.dataMeta, insn);
    case XdpMd.ingressIfindex:
      return { offset: XdpContext.ingressIfindex };
    case XdpMd.rxQueueIndex:
      return { offset: XdpContext.rxQueueIndex };
    case XdpMd.egressIfindex:
      return { offset: XdpContext.egressIfindex };
    default:
      return undefined;
  }
}

function placeInSkb(field: number, insn: Load | Store): Place | undefined {
  switch (field) {
    case SkBuff.data:
      return pointer(SkbContext.data, insn);
    case SkBuff.dataEnd:
      return pointer(SkbContext.dataEnd, insn);
    case SkBuff.dataMeta:
      return pointer(SkbContext.dataMeta, insn);
    default: {
      const end = field + insn.size;
      if (field < 0 || end > SkBuff.size) return undefined;
      const touches = (from: number, size: number) => field < from + size && end > from;
      // Kernel pointers, and parts of the packet pointers, which a narrow or wide access would reach.
      if (field === SkBuff.sk && insn.kind === 'load' && insn.size === 8) return { offset: SkbContext.uapi + field };
      if (touches(SkBuff.flowKeys, 8) || touches(SkBuff.sk, 8)) return undefined;
      if (touches(SkBuff.data, 8) || touches(SkBuff.dataMeta, 4)) return undefined;
      return { offset: SkbContext.uapi + field };
    }
  }
}

function pointer(offset: number, insn: Load | Store): Place | undefined {
  return insn.kind === 'load' && insn.size === 4 && !insn.signed ? { offset, size: 8 } : undefined;
}

function fieldName(type: ProgramType, offset: number): string {
  const [structure, fields] = type === 'xdp' ? ['xdp_md', XdpMd] : ['__sk_buff', SkBuff];
  let best: [name: string, start: number] | undefined;
  for (const [name, start] of Object.entries(fields)) {
    if (name !== 'size' && start <= offset && (best === undefined || start >= best[1])) best = [name, start];
  }
  if (best === undefined) return `${structure} offset ${offset}`;
  const [name, start] = best;
  return `${structure}.${snakeCase(name)}${offset === start ? '' : `+${offset - start}`}`;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z0-9]+/g, part => (/[A-Z]/.test(part) ? `_${part.toLowerCase()}` : part));
}
