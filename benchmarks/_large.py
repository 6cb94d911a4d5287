from benchmarks.tiles import *
if __name__=="__main__":
    torch.set_grad_enabled(False); costs(1,(1,4),True)
