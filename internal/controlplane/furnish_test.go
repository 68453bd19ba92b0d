package controlplane
import "testing"
func TestFurnish(t *testing.T){ i:=install(t); a:=i.open(accountA,"alpha"); a.furnish(); t.Log(a.things); t.Log(len(i.rows())) }
