/** Every trusted routine of the helpers. The map operations' are in `maps/`. */
import type { Routine } from '../isa/routine.ts';
import { ADJUST_ROOM_ROUTINES } from './routines/adjust-room.ts';
import { CHECKSUM_ROUTINES } from './routines/checksum.ts';
import { DYNPTR_ROUTINES } from './routines/dynptr.ts';
import { GENERAL_ROUTINES } from './routines/general.ts';
import { HASH_ROUTINES } from './routines/hash.ts';
import { ITERATOR_ROUTINES } from './routines/iterators.ts';
import { MEMORY_ROUTINES } from './routines/memory.ts';
import { PERF_EVENT_ROUTINES } from './routines/perf-event.ts';
import { PROTOCOL_ROUTINES } from './routines/protocol.ts';
import { REDIRECT_ROUTINES } from './routines/redirect.ts';
import { ROUTE_ROUTINES } from './routines/route.ts';
import { SKB_ROUTINES } from './routines/skb.ts';
import { SOCKET_ROUTINES } from './routines/socket.ts';
import { TEXT_ROUTINES } from './routines/text.ts';
import { VLAN_ROUTINES } from './routines/vlan.ts';
import { XDP_ROUTINES } from './routines/xdp.ts';

export const HELPER_ROUTINES: readonly Routine[] = [
  ...MEMORY_ROUTINES,
  ...GENERAL_ROUTINES,
  ...CHECKSUM_ROUTINES,
  ...SKB_ROUTINES,
  ...ADJUST_ROOM_ROUTINES,
  ...PROTOCOL_ROUTINES,
  ...VLAN_ROUTINES,
  ...HASH_ROUTINES,
  ...XDP_ROUTINES,
  ...REDIRECT_ROUTINES,
  ...ROUTE_ROUTINES,
  ...PERF_EVENT_ROUTINES,
  ...ITERATOR_ROUTINES,
  ...DYNPTR_ROUTINES,
  ...TEXT_ROUTINES,
  ...SOCKET_ROUTINES,
];
