package doctor

// Findings are what the caller has asked for. Errors say why something could not
// be found out.
type Findings struct {
	Config    string // the configuration's path, for the text
	ConfigErr error  // then the rest means nothing
	RunDir    string
	LedgerDir string
	Server    *Server // nil: ServerErr
	ServerErr error
	// Coordinators that answer; without one, CoordinatorErr.
	Coordinators   []Coordinator
	CoordinatorErr error
	Gateways       []Gateway // in the configuration's order
	Libvirt        *Libvirt  // nil: LibvirtErr, or nobody has asked because no gateway has a domain
	LibvirtErr     error
	Strays         []Domain // domains that say that they are gateways and are not configured
	Hook           string   // the hook's path; "" if none is installed
	HookFault      string   // what is wrong with it
	Root           string   // where the file system begins; "" is /
}

// Server is what the server says of itself.
type Server struct {
	PID   int
	Store bool // its descriptors outlive it
}

// Coordinator is what a coordinator says of itself.
type Coordinator struct {
	PID         int
	Acting      bool
	LedgerFault string
}

// Gateway is a configured gateway.
type Gateway struct {
	Name     string
	Socket   string
	UID, GID int // that the configuration wants the socket to have; -1: the server's own
	Mode     uint32
	HasUUID  bool // the configuration names its domain
	Served   bool
	Seat     string // of the guest: free, connected, lost; "" if not known
	PID      int    // of its holder
	Members  int    // that a coordinator knows to be present
	Away     int    // that are known, and away
	// Fault and Quarantined are a coordinator's: the region cannot be attached; the
	// guest has broken the protocol.
	Fault       string
	Quarantined string
	Domain      Domain // with HasUUID, and an answer of libvirt
}

// Domain is what libvirt says of a domain.
type Domain struct {
	Name       string // "" if libvirt has none with the UUID
	UUID       string
	State      string
	KVM        bool // its type
	Interrupts bool
	// Fault and Remedy: its device is not as it must be.
	Fault, Remedy string
}

// Libvirt is what libvirt says of the machine.
type Libvirt struct {
	KVM, AppArmor bool
	UID, GID      int // of QEMU; -1 if not known
}
