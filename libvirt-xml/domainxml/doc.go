// Package domainxml writes libvirt domains and networks for gateways, and edits
// the domains of others: what makes a gateway of them, and exactly back again.
// The formats are libvirt's (https://libvirt.org/formatdomain.html and
// formatnetwork.html); which elements a stock Debian guest needs was measured.
//
// [Gateway] and [Network] become whole documents. [Attachment.Patch] and
// [Unpatch] edit the text of a document where it must change and leave every
// other byte as it is: comments, unknown elements, other programs' namespaces.
// What Patch did stands in the document itself, in the domain's metadata, so
// that Unpatch needs nothing else, also after libvirt has written the document
// anew and somebody has edited it.
//
// Trust: names, paths and documents come from the administrator or from libvirt.
// A document is bounded in size and depth, must be well-formed, and what is
// added to it is escaped. Nothing here touches the machine; the same input gives
// the same output.
package domainxml
