// Stands in for Open MPI and NCCL on a machine that runs MindSpore Lite on one GPU.
//
// Lite's GPU plugin is linked to both, and when it is loaded it queries the number of processes and an NCCL id. With one
// card there is one process, 0 of 1, and nothing to exchange. The real libraries end the process if they cannot start.

extern "C" {

int MPI_Comm_size(void *, int *size) { return *size = 1, 0; }
int MPI_Group_size(void *, int *size) { return *size = 1, 0; }
int MPI_Comm_rank(void *, int *rank) { return *rank = 0, 0; }
int MPI_Group_rank(void *, int *rank) { return *rank = 0, 0; }
int MPI_Initialized(int *flag) { return *flag = 1, 0; }
int MPI_Finalized(int *flag) { return *flag = 0, 0; }

// Objects whose addresses Open MPI's header uses as handles.
char ompi_mpi_byte[1024], ompi_mpi_comm_null[1024], ompi_mpi_comm_world[1024], ompi_mpi_datatype_null[1024];

#define SUCCEEDS(name) \
  int name() { return 0; }
SUCCEEDS(MPI_Allgather)
SUCCEEDS(MPI_Bcast)
SUCCEEDS(MPI_Comm_create_group)
SUCCEEDS(MPI_Comm_group)
SUCCEEDS(MPI_Finalize)
SUCCEEDS(MPI_Group_free)
SUCCEEDS(MPI_Group_incl)
SUCCEEDS(MPI_Group_translate_ranks)
SUCCEEDS(MPI_Init)
SUCCEEDS(ncclAllGather)
SUCCEEDS(ncclAllReduce)
SUCCEEDS(ncclBroadcast)
SUCCEEDS(ncclCommAbort)
SUCCEEDS(ncclCommDestroy)
SUCCEEDS(ncclCommInitRank)
SUCCEEDS(ncclGetUniqueId)
SUCCEEDS(ncclGroupEnd)
SUCCEEDS(ncclGroupStart)
SUCCEEDS(ncclRecv)
SUCCEEDS(ncclReduceScatter)
SUCCEEDS(ncclSend)

}  // extern "C"
